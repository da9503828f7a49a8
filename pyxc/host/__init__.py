# SPDX-License-Identifier: MIT
"""The host: xen.pools, xen.console and the other parts of a hypervisor."""
