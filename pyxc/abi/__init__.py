# SPDX-License-Identifier: MIT
"""Structures, operations and constants of the hypervisor's interface. No module here does I/O."""
