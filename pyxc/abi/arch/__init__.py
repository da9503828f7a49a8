# SPDX-License-Identifier: MIT
"""The architecture-specific parts of Xen's public headers."""
