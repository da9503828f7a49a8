# SPDX-License-Identifier: MIT
"""Special domain ids (public/xen.h). Real domains have ids below DOMID_FIRST_RESERVED."""

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
"""Never a domain: the domid of operations without a domain."""
DOMID_ANY: Final = 0x7FF5
"""Any free id for createdomain: the only value since 4.22, and accepted by every earlier release."""
DOMID_IDLE: Final = 0x7FFF
DOMID_MASK: Final = 0x7FFF
