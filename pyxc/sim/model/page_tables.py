# SPDX-License-Identifier: MIT
"""Page tables of PV domains, as the simulated hypervisor checks them before a processor uses them."""

from __future__ import annotations

from typing import Final

from pyxc.abi.arch.x86 import PTE_FRAME_MASK, PTE_PRESENT, PTE_PSE, PTE_USER, PTE_WRITABLE
from pyxc.abi.domctl import PAGE_PINNED, PageType
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host

TYPES: Final = {1: PageType.L1TAB, 2: PageType.L2TAB, 3: PageType.L3TAB, 4: PageType.L4TAB}
_XENS_SLOTS = range(256, 272)
"""Entries of a top table that are Xen's own, whatever the guest puts there."""
_PAE_SLOTS, _PAE_LAST = 4, 3
"""The top table of three levels has four entries; the last one must be present: Xen is mapped below it."""


def levels(domain: Domain) -> int:
    return 3 if domain.address_size == 32 else 4


def pin(xen: Host, domain: Domain, mfn: int, level: int) -> None:
    """Check a table and those below it, and keep them as they are. Refusal (EINVAL, EBUSY, EPERM)."""
    if level > levels(domain) or xen.machine.types.get(mfn, 0) & PAGE_PINNED:
        raise Refusal(XenErrno.EINVAL)
    adopt(xen, domain, mfn, level)
    xen.machine.types[mfn] |= PAGE_PINNED


def adopt(xen: Host, domain: Domain, mfn: int, level: int) -> None:
    """Check a table and those below it: from now on they cannot be written. Refusal."""
    if level == 0 or xen.machine.types.get(mfn, PageType.NOTAB) & ~PAGE_PINNED == TYPES[level]:
        return
    found: dict[int, int] = {}
    _find(xen, domain, mfn, level, found)
    written = xen.holdings.writable_frames(domain.domid)
    if written & found.keys():
        raise Refusal(XenErrno.EINVAL)
    for table, its_level in found.items():
        if its_level == 1:
            _check_pages(xen, domain, table, found)
    for table, its_level in found.items():
        xen.machine.types[table] = TYPES[its_level]
        if its_level == 1 and domain.address_size == 64:
            _open_to_users(xen, table)


def _find(xen: Host, domain: Domain, mfn: int, level: int, found: dict[int, int]) -> None:
    """All tables below one, each of one level only."""
    kind = xen.machine.types.get(mfn, PageType.NOTAB) & ~PAGE_PINNED
    if kind == TYPES[level]:
        return
    owned = xen.machine.owned_by(mfn, domain.domid) and mfn not in xen.machine.special
    if not owned or kind or found.get(mfn, level) != level:
        raise Refusal(XenErrno.EINVAL)
    if mfn in found:
        return
    found[mfn] = level
    for entry in _entries(xen, domain, mfn, level) if level > 1 else ():
        if entry & PTE_PSE:
            raise Refusal(XenErrno.EINVAL)
        _find(xen, domain, _frame(entry), level - 1, found)


def _entries(xen: Host, domain: Domain, mfn: int, level: int) -> list[int]:
    """Those that are present and the guest's own."""
    entries = list(xen.machine.words.unpack(xen.machine.memory.read(mfn, 0, 4096)))
    if level == 4:
        entries[_XENS_SLOTS.start : _XENS_SLOTS.stop] = []
    elif level == 3 and levels(domain) == 3:
        if not entries[_PAE_LAST] & PTE_PRESENT:
            raise Refusal(XenErrno.EINVAL)
        entries = entries[:_PAE_SLOTS]
    return [entry for entry in entries if entry & PTE_PRESENT]


def _check_pages(xen: Host, domain: Domain, table: int, found: dict[int, int]) -> None:
    """Every page is the domain's, and what is a table is not to be written."""
    for entry in _entries(xen, domain, table, 1):
        mfn = _frame(entry)
        if not xen.machine.owned_by(mfn, domain.domid):
            raise Refusal(XenErrno.EPERM)
        if entry & PTE_WRITABLE and (mfn in found or mfn in xen.machine.types):
            raise Refusal(XenErrno.EBUSY)


def _open_to_users(xen: Host, table: int) -> None:
    """A 64-bit kernel runs at the level of its programs, so Xen lets both reach all pages."""
    entries = xen.machine.words.unpack(xen.machine.memory.read(table, 0, 4096))
    opened = [entry | PTE_USER if entry & PTE_PRESENT else entry for entry in entries]
    xen.machine.memory.write(table, 0, xen.machine.words.pack(opened))


def _frame(entry: int) -> int:
    return (entry & PTE_FRAME_MASK) >> 12
