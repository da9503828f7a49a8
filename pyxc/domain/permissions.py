# SPDX-License-Identifier: MIT
"""The hardware of the host that a domain may use directly."""

from __future__ import annotations

from pyxc import arguments
from pyxc.abi import domctl_permissions as operations
from pyxc.abi.operation import Operation
from pyxc.abi.page import MOST_FRAME
from pyxc.domain.identity import Identity

_PORTS = 1 << 16
_U32_MAX = 2**32 - 1


class Permissions:
    """The hardware of the host that a domain may use. Threads: safe to share.

    dom0 can pass on only its own permissions: each call raises PermissionDenied (EPERM) for hardware that
    dom0 may not use, such as Xen's own timer and console. Xen does not report what a domain may use.

    Example:

    >>> web.permissions.allow_io_ports(0x2F8, 8)
    """

    def __init__(self, domain: Identity) -> None:
        self._domain = domain

    def allow_io_ports(self, first: int, count: int = 1) -> None:
        """Allow x86 I/O ports (domctl ioport_permission)."""
        self._io_ports(first, count, True)

    def deny_io_ports(self, first: int, count: int = 1) -> None:
        self._io_ports(first, count, False)

    def allow_memory(self, mfn: int, count: int = 1) -> None:
        """Allow machine frames of devices (domctl iomem_permission); an HVM domain also needs map_mmio()."""
        self._memory(mfn, count, True)

    def deny_memory(self, mfn: int, count: int = 1) -> None:
        self._memory(mfn, count, False)

    def allow_irq(self, pirq: int) -> None:
        """Allow an interrupt by dom0's number for it (domctl irq_permission). EINVAL: beyond dom0's range.

        Numbers above 255 are a ValueError before Xen 4.16.
        """
        self._irq(pirq, True)

    def deny_irq(self, pirq: int) -> None:
        self._irq(pirq, False)

    def allow_gsi(self, gsi: int) -> None:
        """Allow an interrupt by the machine's number (domctl gsi_permission). Unsupported before Xen 4.20."""
        self._gsi(gsi, True)

    def deny_gsi(self, gsi: int) -> None:
        self._gsi(gsi, False)

    def _io_ports(self, first: int, count: int, allow: bool) -> None:
        arguments.natural("first", first, _PORTS - 1)
        arguments.natural("count", count, _PORTS - first, 1)
        self._set(operations.IOPORT_PERMISSION, first_port=first, nr_ports=count, allow_access=allow)

    def _memory(self, mfn: int, count: int, allow: bool) -> None:
        arguments.frame("mfn", mfn)
        arguments.natural("count", count, MOST_FRAME - mfn + 1, 1)
        self._set(operations.IOMEM_PERMISSION, first_mfn=mfn, nr_mfns=count, allow_access=allow)

    def _irq(self, pirq: int, allow: bool) -> None:
        arguments.natural("pirq", pirq, _U32_MAX)
        self._set(operations.IRQ_PERMISSION, pirq=pirq, allow_access=allow)

    def _gsi(self, gsi: int, allow: bool) -> None:
        arguments.natural("gsi", gsi, _U32_MAX)
        self._set(operations.GSI_PERMISSION, gsi=gsi, flags=int(allow))

    def _set(self, operation: Operation, **fields: int) -> None:
        self._domain.change(operation, **fields)

    def __repr__(self) -> str:
        return f"<Permissions of domain {self._domain.domid}>"
