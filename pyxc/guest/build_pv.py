# SPDX-License-Identifier: MIT
"""The plan of a PV guest: the layout of its memory, its page tables, and its first context."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.abi.arch import x86
from pyxc.abi.arch.x86 import ContextFlag, StartFlag
from pyxc.abi.layout import Interface
from pyxc.abi.page import PAGE_KB
from pyxc.domain.registers import VcpuContext
from pyxc.guest import page_tables
from pyxc.guest.built import Rings
from pyxc.guest.contents import Data
from pyxc.guest.images import Kernel, NoteType
from pyxc.guest.page_tables import Span, Table
from pyxc.guest.placing import Piece, aligned, check_apart, pages, segments

_MAPPING_BYTES = 4 << 20
"""The initial mapping of a guest ends at a multiple of this,"""
_PADDING_BYTES = 512 << 10
"""with at least this much free space at its end, from which a kernel takes its first pages."""
_COMMAND_LINE_MOST = 1023
_IF = 1 << 9
_DR6, _DR7 = 0xFFFF0FF0, 0x400
_VCPU_INFO_BYTES = 64
_UPCALL_MASK_AT = 1


class _Width(NamedTuple):
    """The differences between 32-bit and 64-bit kernels. `word` is the typecode of a frame number."""

    magic: bytes
    levels: int
    word: str
    code: int
    data: int


_WIDTHS = {
    64: _Width(b"xen-3.0-x86_64", 4, "Q", 0xE033, 0xE02B),
    32: _Width(b"xen-3.0-x86_32p", 3, "I", 0xE019, 0xE021),
}


class PvPlan(NamedTuple):
    """The plan of a PV guest: where everything is, by pfn, in a memory of `pages` pages.

    `base` is the virtual address of pfn 0. `pieces` are written as they are; p2m, page tables and start info
    once the machine frames are known. `p2m_frames` counts the p2m with the tables that map it apart, 0 where
    it is among the rest; `ramdisk` is (mod_start, mod_len, flags) of the start info.
    """

    bits: int
    pages: int
    base: int
    pieces: tuple[Piece, ...]
    spans: tuple[Span, ...]
    tables: dict[Table, int]
    p2m: Span
    p2m_frames: int
    start_info: int
    store: int
    console: int
    stack: int
    entry: int
    hypercall_page: int | None
    ramdisk: tuple[int, int, int]
    command_line: bytes

    @property
    def root(self) -> int:
        """The pfn of the top page table."""
        return self.tables[Table(_WIDTHS[self.bits].levels, 0)]

    def address(self, pfn: int) -> int:
        """The virtual address of a page in the initial mapping of the guest."""
        return self.base + pfn * PAGE_SIZE


class _Places:
    """Allocates pages one after the other, by what is there."""

    def __init__(self, first: int) -> None:
        self.pfns: dict[str, int] = {}
        self.next = first

    def take(self, what: str, count: int = 1) -> None:
        self.pfns[what] = self.next
        self.next += count


def plan(kernel: Kernel, pages_: int, command_line: bytes = b"", ramdisk: Data = b"") -> PvPlan:
    """Plan a guest of `pages` pages. ValueError: the command line is too long, or the memory too small.
    DecodeError: the kernel's headers or notes are invalid.

    The kernel, the ramdisk, p2m, start info, rings, page tables and a stack are mapped from `base` on; the
    ramdisk and the p2m are behind the mapping if the kernel's notes ask for that.
    """
    if len(command_line) > _COMMAND_LINE_MOST or b"\0" in command_line:
        text = f"the command line has {len(command_line)} bytes"
        raise ValueError(f"{text}: up to {_COMMAND_LINE_MOST} are possible, and no NUL")
    loaded = _loaded(kernel)
    entry_bytes = array(_WIDTHS[kernel.bits].word).itemsize
    counts = {"ramdisk": pages(len(ramdisk)), "p2m": pages(pages_ * entry_bytes)}
    kernel_end = pages(max(piece.stop for piece in loaded))
    _check_fits(kernel_end + sum(counts.values()), pages_)
    places, tables, spans = _placed(kernel, kernel_end, counts)
    _check_fits(places.next, pages_)
    base, pfns = kernel.number(NoteType.VIRT_BASE), places.pfns
    pieces = [*loaded, Piece(pfns["ramdisk"] * PAGE_SIZE, ramdisk)] if ramdisk else loaded
    p2m_apart = len(spans) > 1
    return PvPlan(
        bits=kernel.bits,
        pages=pages_,
        base=base,
        pieces=tuple(pieces),
        spans=spans,
        tables=tables,
        p2m=spans[1] if p2m_apart else Span(base + pfns["p2m"] * PAGE_SIZE, pfns["p2m"], counts["p2m"]),
        p2m_frames=places.next - pfns["p2m"] if p2m_apart else 0,
        start_info=pfns["start_info"],
        store=pfns["store"],
        console=pfns["console"],
        stack=pfns["stack"],
        entry=_entry(kernel, loaded),
        hypercall_page=_hypercall_page(kernel, loaded),
        ramdisk=_ramdisk(kernel, pfns["ramdisk"], len(ramdisk)),
        command_line=command_line,
    )


def _check_fits(needed: int, pages_: int) -> None:
    if needed > pages_:
        raise ValueError(f"the memory is too small: kernel and ramdisk need {needed * PAGE_KB} KiB")


def _loaded(kernel: Kernel) -> list[Piece]:
    """The kernel's segments as pieces of the guest's memory, after a check that they fit."""
    offset = kernel.number(NoteType.PADDR_OFFSET)
    if offset and NoteType.VIRT_BASE not in kernel.notes:
        raise errors.DecodeError("the kernel has a note PADDR_OFFSET and none for VIRT_BASE")
    loaded = segments(kernel.elf, -offset)
    if any(piece.address < 0 for piece in loaded):
        raise errors.DecodeError(f"the kernel has a segment below its PADDR_OFFSET, {offset:#x}")
    check_apart(loaded)
    size = aligned(max(piece.stop for piece in loaded))
    _check_span(kernel.bits, Span(kernel.number(NoteType.VIRT_BASE), 0, pages(size)))
    return loaded


def _check_span(bits: int, span: Span) -> None:
    """Check that the addresses are valid for the processor, and that a page begins there."""
    stop = span.stop + _MAPPING_BYTES + _PADDING_BYTES
    half = 1 << 47 if bits == 64 else 0
    outside = stop > 1 << bits or (half and span.start < (1 << 64) - half and stop > half)
    if outside or span.start % PAGE_SIZE:
        raise errors.DecodeError(f"the kernel wants to be mapped at {span.start:#x}, where nothing can be")


def _placed(
    kernel: Kernel, first: int, counts: dict[str, int]
) -> tuple[_Places, dict[Table, int], tuple[Span, ...]]:
    """Place everything but the kernel; returns the pfns of the page tables and what they map."""
    apart = {
        "ramdisk": bool(kernel.number(NoteType.MOD_START_PFN)),
        "p2m": NoteType.INIT_P2M in kernel.notes,
    }
    base, levels = kernel.number(NoteType.VIRT_BASE), _WIDTHS[kernel.bits].levels
    places = _Places(first)
    for what, count in counts.items():
        if not apart[what]:
            places.take(what, count)
    for what in ("start_info", "store", "console"):
        places.take(what)
    needed = _mapping(levels, base, places.next)
    tables = {table: places.next + index for index, table in enumerate(needed)}
    places.take("tables", len(tables))
    places.take("stack")
    spans = [Span(base, 0, _end(base, places.next))]
    places.next = spans[0].pages
    for what, count in counts.items():
        if apart[what]:
            places.take(what, count)
    if apart["p2m"]:
        spans.append(Span(kernel.number(NoteType.INIT_P2M), places.pfns["p2m"], counts["p2m"]))
        _check_span(kernel.bits, spans[1])
        if spans[0].start < spans[1].stop and spans[1].start < spans[0].stop:
            raise errors.DecodeError("the kernel wants its p2m where it is itself")
        for table in page_tables.needed(levels, spans[1:]):
            if table not in tables:
                tables[table] = places.next
                places.next += 1
    return places, tables, tuple(spans)


def _mapping(levels: int, base: int, used: int) -> list[Table]:
    """The tables for a mapping of the pages in use and of the tables themselves."""
    needed: list[Table] = []
    while True:
        span = Span(base, 0, _end(base, used + len(needed) + 1))
        again = page_tables.needed(levels, [span])
        if len(again) == len(needed):
            return again
        needed = again


def _end(base: int, used: int) -> int:
    """The number of pages in a mapping of which this many are in use."""
    stop = base + used * PAGE_SIZE + _PADDING_BYTES
    return pages(-(-stop // _MAPPING_BYTES) * _MAPPING_BYTES - base)


def _entry(kernel: Kernel, loaded: list[Piece]) -> int:
    entry = kernel.number(NoteType.ENTRY, kernel.elf.entry)
    address = entry - kernel.number(NoteType.VIRT_BASE)
    if not any(piece.address <= address < piece.stop for piece in loaded):
        raise errors.DecodeError(f"the kernel's entry {entry:#x} is not in any of its segments")
    return entry


def _hypercall_page(kernel: Kernel, loaded: list[Piece]) -> int | None:
    """The pfn of the page that Xen fills for kernels that call it through one."""
    if NoteType.HYPERCALL_PAGE not in kernel.notes:
        return None
    address = kernel.number(NoteType.HYPERCALL_PAGE)
    pfn = (address - kernel.number(NoteType.VIRT_BASE)) // PAGE_SIZE
    if address % PAGE_SIZE or not any(pfn in piece.frames for piece in loaded):
        raise errors.DecodeError(f"the kernel's hypercall page {address:#x} is not a page of its segments")
    return pfn


def _ramdisk(kernel: Kernel, pfn: int, size: int) -> tuple[int, int, int]:
    if not size:
        return 0, 0, 0
    if kernel.number(NoteType.MOD_START_PFN):
        return pfn, size, int(StartFlag.MOD_START_PFN)
    return kernel.number(NoteType.VIRT_BASE) + pfn * PAGE_SIZE, size, 0


# What is written once the machine frames are known: `frames` has that of each pfn.


def p2m(plan: PvPlan, frames: array[int]) -> Piece:
    """The guest's list of its frames."""
    entries = frames if plan.bits == 64 else array(_WIDTHS[32].word, frames)
    if sys.byteorder == "big":
        entries = entries[:]
        entries.byteswap()
    return Piece(plan.p2m.pfn * PAGE_SIZE, memoryview(entries).cast("B"), plan.p2m.pages * PAGE_SIZE)


def tables(plan: PvPlan, frames: array[int]) -> Iterator[Piece]:
    """Its page tables, one by one."""
    levels = _WIDTHS[plan.bits].levels
    for pfn, entries in page_tables.contents(levels, plan.spans, plan.tables, frames):
        words = array("Q", entries)
        if sys.byteorder == "big":
            words.byteswap()
        yield Piece(pfn * PAGE_SIZE, words.tobytes())


def start_info(interface: Interface, plan: PvPlan, rings: Rings, shared_info: int) -> Piece:
    """The start info, in a page of its own: the guest's second register points to it."""
    table = x86.START_INFO_STRUCT if plan.bits == 64 else x86.START_INFO_32_STRUCT
    mod_start, mod_len, flags = plan.ramdisk
    main = {table for table, pfn in plan.tables.items() if pfn < plan.spans[0].pages}
    fields = {
        "magic": _WIDTHS[plan.bits].magic.ljust(32, b"\0"),
        "nr_pages": plan.pages,
        "shared_info": shared_info * PAGE_SIZE,
        "flags": flags,
        "store_mfn": rings.store_frame,
        "store_evtchn": rings.store_port,
        "console.domU.mfn": rings.console_frame,
        "console.domU.evtchn": rings.console_port,
        "pt_base": plan.address(plan.root),
        "nr_pt_frames": len(main),
        "mfn_list": plan.p2m.start,
        "mod_start": mod_start,
        "mod_len": mod_len,
        "cmd_line": plan.command_line.ljust(1024, b"\0"),
        "first_p2m_pfn": plan.p2m.pfn if plan.p2m_frames else 0,
        "nr_p2m_frames": plan.p2m_frames,
    }
    return Piece(plan.start_info * PAGE_SIZE, table.at(interface).pack(fields), PAGE_SIZE)


def shared_info() -> bytes:
    """The page that Xen shares with the guest: no event is delivered until the guest unmasks events."""
    vcpu = bytearray(_VCPU_INFO_BYTES)
    vcpu[_UPCALL_MASK_AT] = 1
    return (bytes(vcpu) * x86.VCPU_INFOS).ljust(PAGE_SIZE, b"\0")


def registers(interface: Interface, plan: PvPlan, root: int) -> VcpuContext:
    """vcpu 0 before the kernel's first instruction; `root` is the machine frame of the top page table."""
    width = _WIDTHS[plan.bits]
    stack = plan.address(plan.stack + 1)
    common = {
        "flags": int(ContextFlag.IN_KERNEL | ContextFlag.ONLINE),
        "cs": width.code,
        "ss": width.data,
        "kernel_ss": width.data,
        "kernel_sp": stack,
        "dr6": _DR6,
        "dr7": _DR7,
    }
    info = plan.address(plan.start_info)
    if plan.bits == 64:
        own = {"rsi": info, "rip": plan.entry, "rflags": _IF, "rsp": stack, "cr3": root * PAGE_SIZE}
    else:
        data = dict.fromkeys(("ds", "es", "fs", "gs"), width.data)
        cr3 = x86.cr3_32_of(root)
        own = {"esi": info, "eip": plan.entry, "eflags": _IF, "esp": stack, "cr3": cr3, **data}
    return VcpuContext.zero(plan.bits, interface).replace(**common, **own)
