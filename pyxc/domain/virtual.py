# SPDX-License-Identifier: MIT
"""Memory of a guest as one of its vcpus sees it: through page tables, in which a guest may write anything."""

from __future__ import annotations

import errno
from typing import Final

from pyxc import arguments, errors
from pyxc._core import PAGE_SIZE
from pyxc.abi.arch import x86
from pyxc.domain.identity import Identity
from pyxc.domain.mapping import Mapping
from pyxc.domain.registers import VcpuContext

_CR0_PAGING: Final = 1 << 31
_CR4_FIVE_LEVELS: Final = 1 << 12
_ENTRY_BYTES: Final = 8
_SHIFTS: Final = (48, 39, 30, 21, 12)
_LARGE: Final = (30, 21)
_SIZE_MOST: Final = 1 << 20


def read(domain: Identity, context: VcpuContext, address: int, size: int) -> bytes:
    """See Vcpu.read()."""
    if context.width != 64 or "cr3" not in context:
        hint = "addresses are translated for 64-bit guests on x86 only"
        raise errors.Unsupported(errno.EOPNOTSUPP, "translating", domain.domid, hint=hint)
    arguments.natural("address", address, 2**64 - 1)
    arguments.natural("size", size, _SIZE_MOST)
    tables = _Tables(domain, context)
    found = b""
    while len(found) < size:
        place = tables.place((address + len(found)) & (2**64 - 1))
        if place is None:
            break
        frame, offset = place
        count = min(PAGE_SIZE - offset, size - len(found))
        data = tables.bytes_of(frame, offset, count)
        if data is None:
            break
        found += data
    return found


class _Tables:
    """The page tables that a context uses. A PV guest's name machine frames, others guest frames."""

    def __init__(self, domain: Identity, context: VcpuContext) -> None:
        self._mapping = Mapping(domain)
        hvm = domain.info().is_hvm
        self._paging = not hvm or bool(context["cr0"] & _CR0_PAGING)
        self._shifts = _SHIFTS if hvm and context["cr4"] & _CR4_FIVE_LEVELS else _SHIFTS[1:]
        self._root = (context["cr3"] & x86.PTE_FRAME_MASK) // PAGE_SIZE

    def place(self, address: int) -> tuple[int, int] | None:
        """The frame of an address and the offset in it; None if it is not mapped."""
        if not self._paging:
            return divmod(address, PAGE_SIZE) if address < 2**52 else None
        frame = self._root
        for shift in self._shifts:
            data = self.bytes_of(frame, (address >> shift & 0x1FF) * _ENTRY_BYTES, _ENTRY_BYTES)
            entry = int.from_bytes(data or b"", "little")
            if not entry & x86.PTE_PRESENT:
                return None
            frame = (entry & x86.PTE_FRAME_MASK) // PAGE_SIZE
            if shift in _LARGE and entry & x86.PTE_PSE:
                pages = 1 << shift - 12
                frame = frame & ~(pages - 1) | address // PAGE_SIZE & pages - 1
                break
        return frame, address % PAGE_SIZE

    def bytes_of(self, frame: int, offset: int, size: int) -> bytes | None:
        """None for a frame that the guest does not have."""
        try:
            return self._mapping.read(frame, offset, size)
        except (errors.DomainGone, errors.DomainNotFound, errors.PermissionDenied):
            raise
        except (errors.HypercallError, ValueError):
            return None
