# SPDX-License-Identifier: MIT
"""What differs by architecture in Xen's public headers."""
