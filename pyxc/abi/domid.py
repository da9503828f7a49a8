# SPDX-License-Identifier: MIT
"""Domain ids with a meaning of their own (public/xen.h). Real domains have ids below DOMID_FIRST_RESERVED."""

from __future__ import annotations

from typing import Final

DOMID_FIRST_RESERVED: Final = 0x7FF0
DOMID_SELF: Final = 0x7FF0
"""The domain that makes the hypercall."""
DOMID_IO: Final = 0x7FF1
"""Owner of the I/O space."""
DOMID_XEN: Final = 0x7FF2
"""Owner of the hypervisor's own pages."""
DOMID_COW: Final = 0x7FF3
"""Owner of shared pages."""
DOMID_INVALID: Final = 0x7FF4
"""Never a domain: what a question without a domain carries."""
DOMID_ANY: Final = 0x7FF5
"""Asks createdomain for any free id: the only way from 4.22, and taken by every release before."""
DOMID_IDLE: Final = 0x7FFF
DOMID_MASK: Final = 0x7FFF
