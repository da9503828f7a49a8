# SPDX-License-Identifier: MIT
"""What the hypervisor's memory looks like: structures, operations and constants. No module here does I/O."""
