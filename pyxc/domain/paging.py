# SPDX-License-Identifier: MIT
"""Page tables of x86 guests: how a vcpu translates addresses, and walking its tables.

Guests write their tables: a walk reads at most five entries, and an entry that no processor accepts is a
DecodeError. A table that is its own entry is valid.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple

from pyxc import errors
from pyxc.abi import domctl, hvm_save
from pyxc.abi.arch import x86
from pyxc.abi.arch.x86 import PTE_NX, PTE_PRESENT, PTE_PSE, PTE_USER, PTE_WRITABLE
from pyxc.abi.hvm_save import HvmRecordType
from pyxc.domain.hvm_context import HvmContexts
from pyxc.domain.identity import Identity
from pyxc.domain.registers import VcpuContext

PAGE_BITS = 12
_LARGEST = {2: 2, 3: 2, 4: 3, 5: 3}
"""The highest level whose entries can map memory, by the number of levels."""
_SMALL_RESERVED = 0x1E6
"""Bits of an entry in the top table of three levels that the processor reserves: 1, 2, 5 to 8."""
_ROOT_BITS = {2: 0xFFFF_F000, 3: 0xFFFF_FFE0, 4: x86.PTE_FRAME_MASK, 5: x86.PTE_FRAME_MASK}

Word = Callable[[int, int, int], int]
"""Reads an entry: the frame of the table, the offset in it, and 4 or 8 bytes."""


class Paging(NamedTuple):
    """How a vcpu translates addresses: the levels of its tables (0: none), and where the top one is.

    `root` is an address in machine memory of a PV domain, in guest memory otherwise. `no_execute`: bit 63 of
    an entry forbids execution, else it is reserved. `large`: 32-bit tables may map 4 MiB at once.
    """

    levels: int
    root: int
    no_execute: bool = True
    large: bool = True
    pv: bool = False

    @property
    def bits(self) -> int:
        """Of an address that it translates."""
        return {4: 48, 5: 57}.get(self.levels, 32)

    def with_root(self, cr3: int) -> Paging:
        """The same with other tables, by a value of cr3."""
        if self.pv and self.levels == 3:  # rotated: the table can be beyond 4 GiB
            return self._replace(root=((cr3 >> PAGE_BITS | cr3 << 20) & 0xFFFF_FFFF) << PAGE_BITS)
        return self._replace(root=cr3 & _ROOT_BITS.get(self.levels, 0))


class Translation(NamedTuple):
    """The memory behind a virtual address, by page tables of the guest.

    `frame` is that of its page of 4096 bytes: a machine frame of a PV domain, a guest frame otherwise;
    `page_bits` is 12 for a page of 4096 bytes, 21, 22 or 30 for larger ones.

    Example:

    >>> found = db1.vcpu(0).translate(0xFFFF_FFFF_8010_0123)
    >>> hex(found.frame), found.page_bits, found.writable
    ('0x100', 21, True)
    """

    address: int
    frame: int
    page_bits: int
    writable: bool
    user: bool
    executable: bool


class Hole(NamedTuple):
    """No memory: an entry that is not present, for 2**bits bytes around the address."""

    address: int
    bits: int


def of_vcpu(domain: Identity, vcpu: int) -> Paging:
    """How a vcpu translates addresses now (domctl getvcpucontext, gethvmcontext_partial).

    Unsupported for other processors than x86, and for HVM before Xen 4.10. OSError ENODATA: the vcpu was
    never initialised, or is offline.
    """
    if domain.xen.interface.arch != "x86_64":
        raise _unsupported(domain, "page tables of this processor are unknown to pyxc")
    return _translated(domain, vcpu) if domain.info().is_hvm else _pv(domain, vcpu)


def _pv(domain: Identity, vcpu: int) -> Paging:
    width = domain.guest_bits()
    size = VcpuContext.size(64, domain.xen.interface)
    reply = domain.call(domctl.GETVCPUCONTEXT, vcpu=vcpu, ctxt=size)
    cr3 = VcpuContext.decode(reply.buffers["ctxt"], width, domain.xen.interface)["cr3"]
    return Paging(4 if width == 64 else 3, 0, pv=True).with_root(cr3)


def _translated(domain: Identity, vcpu: int) -> Paging:
    """The record has what the context lacks: the mode of the processor."""
    try:
        layout = hvm_save.CPU_STRUCT.at(domain.xen.interface)
    except (KeyError, ValueError) as error:
        raise _unsupported(domain, "the registers of HVM guests are unknown before Xen 4.10") from error
    try:
        data = HvmContexts(domain).record(HvmRecordType.CPU, vcpu)
    except KeyError:
        hint = f"vcpu {vcpu} is offline or was never initialised"
        raise errors.from_errno(errno.ENODATA, "translate", domain.domid, hint=hint) from None
    if len(data) < layout.size:
        raise errors.DecodeError(f"the registers of an HVM vcpu have {len(data)} bytes, not {layout.size}")
    registers = layout.unpack(data)
    cr4, efer = registers["cr4"], registers["msr_efer"]
    return Paging(
        levels_of(registers["cr0"], cr4, efer),
        0,
        no_execute=bool(efer & x86.EFER_NXE),
        large=bool(cr4 & x86.CR4_PSE),
    ).with_root(registers["cr3"])


def levels_of(cr0: int, cr4: int, efer: int) -> int:
    """How many levels of tables a processor in this state uses."""
    if not cr0 & x86.CR0_PG:
        return 0
    if efer & x86.EFER_LMA:
        return 5 if cr4 & x86.CR4_LA57 else 4
    return 3 if cr4 & x86.CR4_PAE else 2


def walk(paging: Paging, address: int, word: Word) -> Translation | Hole:
    """Translate an address. DecodeError for an entry that no processor accepts."""
    if not paging.levels:
        return Translation(address, address >> PAGE_BITS, PAGE_BITS, True, True, True)
    size, bits = (4, 10) if paging.levels == 2 else (8, 9)
    table = paging.root
    writable = user = executable = True
    for level in range(paging.levels, 0, -1):
        shift = PAGE_BITS + bits * (level - 1)
        offset = (address >> shift & (1 << bits) - 1) * size
        entry = word(table >> PAGE_BITS, (table & 0xFFF) + offset, size)
        if not entry & PTE_PRESENT:
            return Hole(address, shift)
        _check(paging, address, level, entry)
        if not level == paging.levels == 3:
            writable, user = writable and bool(entry & PTE_WRITABLE), user and bool(entry & PTE_USER)
        executable = executable and not entry & PTE_NX
        if level == 1 or _is_large(paging, level, entry):
            start = _target(address, paging, entry, shift)
            frame = (start | address & (1 << shift) - 1) >> PAGE_BITS
            return Translation(address, frame, shift, writable, user, executable)
        table = entry & (x86.PTE_FRAME_MASK if size == 8 else x86.PTE32_FRAME_MASK)
    raise AssertionError("unreachable")


def _is_large(paging: Paging, level: int, entry: int) -> bool:
    return (
        bool(entry & PTE_PSE) and 1 < level <= _LARGEST[paging.levels] and (paging.levels > 2 or paging.large)
    )


def _check(paging: Paging, address: int, level: int, entry: int) -> None:
    """DecodeError for bits that the processor reserves."""
    reserved = 0
    if entry & PTE_PSE and level > _LARGEST[paging.levels]:
        reserved = PTE_PSE
    if not paging.no_execute and paging.levels > 2:
        reserved |= PTE_NX
    if level == paging.levels == 3 and not paging.pv:
        reserved |= _SMALL_RESERVED | PTE_NX
    if entry & reserved:
        raise errors.DecodeError(
            f"the page table entry {entry:#x} at level {level} for address {address:#x} has reserved bits"
        )


def _target(address: int, paging: Paging, entry: int, shift: int) -> int:
    """The memory that an entry maps. DecodeError if a large page is not aligned."""
    if paging.levels == 2:
        if shift == PAGE_BITS:
            return entry & x86.PTE32_FRAME_MASK
        return entry & 0xFFC0_0000 | (entry & 0x1F_E000) << 19
    start = entry & x86.PTE_FRAME_MASK
    if shift > PAGE_BITS:
        start &= ~(1 << PAGE_BITS)  # its memory type
        if start & (1 << shift) - 1:
            raise errors.DecodeError(
                f"the page table entry {entry:#x} for address {address:#x} maps an unaligned large page"
            )
    return start


def _unsupported(domain: Identity, why: str) -> errors.Unsupported:
    return errors.Unsupported(errno.EOPNOTSUPP, "translate", domain.domid, hint=why)
