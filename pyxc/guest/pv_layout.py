# SPDX-License-Identifier: MIT
"""Where a PV guest has frame numbers: in its page tables, its registers and its start_info."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import compress, count
from typing import NamedTuple

from pyxc._core import PAGE_SIZE, byteswap64, renumber_entries
from pyxc.abi.arch import x86
from pyxc.abi.layout import Table
from pyxc.domain.registers import VcpuContext

_ENTRY_BYTES = 8
_GDT_ENTRIES_PER_FRAME = 512
_XENS_SLOTS = slice(256 * _ENTRY_BYTES, 272 * _ENTRY_BYTES)
"""Of the top table of a 64-bit guest."""
_BEHIND_TOP_OF_PAE = slice(4 * _ENTRY_BYTES, None)
_XENS_LAST_OF_PAE = slice(428 * _ENTRY_BYTES, None)
"""In the second-level table of a 32-bit guest in which Xen itself is mapped, at its highest addresses."""


class Width(NamedTuple):
    """What differs between 64-bit and 32-bit guests. `entry_bytes` is the size of an entry of the p2m;
    `suspend` the register with the frame of start_info."""

    bits: int
    entry_bytes: int
    levels: int
    suspend: str
    start_info: Table
    shared_info: Table
    vcpu_info: Table

    def frame_of_cr3(self, cr3: int) -> int:
        return cr3 >> 12 if self.bits == 64 else x86.frame_of_cr3_32(cr3)

    def cr3_of(self, frame: int) -> int:
        return frame << 12 if self.bits == 64 else x86.cr3_32_of(frame)


WIDTHS = {
    64: Width(64, 8, 4, "rdx", x86.START_INFO_STRUCT, x86.SHARED_INFO_STRUCT, x86.VCPU_INFO_STRUCT),
    32: Width(32, 4, 3, "edx", x86.START_INFO_32_STRUCT, x86.SHARED_INFO_32_STRUCT, x86.VCPU_INFO_32_STRUCT),
}

_LEVELS = bytes(kind & 7 if kind & 7 in (1, 2, 3, 4) else 0 for kind in range(256))
Number = Callable[[int], int]
"""Returns the other number of a frame, or raises an error."""


def level(kind: int) -> int:
    """The level of a page table by its type in PAGE_DATA, pinned or not; 0 for other pages."""
    return _LEVELS[kind]


def tables(types: bytes | bytearray) -> Iterator[int]:
    """The places of page tables in a list of types."""
    return compress(count(), types.translate(_LEVELS))


def renumber_table(
    entries: memoryview, kind: int, width: Width, table: memoryview, swapped: bool
) -> list[int]:
    """Replace the frames in a copy of a page table, see renumber_entries(); entries that are Xen's become 0.

    Returns the frames that the table does not have; if there are any, nothing is replaced.
    """
    if swapped:
        byteswap64(entries)
    _clear(entries, _slots_of_xen(entries, level(kind), width, table))
    bad = renumber_entries(entries, table, x86.PTE_PSE if level(kind) > 1 else 0)
    with entries.cast("Q") as words:
        found = [(words[place] & x86.PTE_FRAME_MASK) >> 12 for place in bad]
    if swapped:
        byteswap64(entries)
    return found


def _slots_of_xen(entries: memoryview, at_level: int, width: Width, table: memoryview) -> slice | None:
    if width.levels == at_level == 4:
        return _XENS_SLOTS
    if width.levels == at_level == 3:
        return _BEHIND_TOP_OF_PAE
    if width.levels == 3 and at_level == 2:
        with entries[_XENS_LAST_OF_PAE] as last:
            if renumber_entries(bytearray(last[:_ENTRY_BYTES]), table):
                return _XENS_LAST_OF_PAE
    return None


def _clear(entries: memoryview, slots: slice | None) -> None:
    if slots is not None:
        entries[slots] = bytes(len(range(PAGE_SIZE)[slots]))


def renumber_registers(context: VcpuContext, width: Width, number: Number, saving: bool) -> VcpuContext:
    """Replace the frames in the registers of a vcpu: of its descriptor table and its page tables."""
    used = -(-context["gdt_ents"] // _GDT_ENTRIES_PER_FRAME)
    gdt = list(context.block("gdt_frames"))
    gdt[:used] = [number(frame) for frame in gdt[:used]]
    cr = {"cr3": width.cr3_of(number(width.frame_of_cr3(context["cr3"])))}
    user = context["cr1"]
    if width.bits == 64 and (user if saving else user & 1):
        cr["cr1"] = number(user >> 12) << 12 | (1 if saving else 0)
    return context.replace(**cr).with_gdt_frames(gdt)
