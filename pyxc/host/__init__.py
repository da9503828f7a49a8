# SPDX-License-Identifier: MIT
"""The host: what xen.pools, xen.console and the other nouns of a hypervisor are."""
