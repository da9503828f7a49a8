# SPDX-License-Identifier: MIT
"""The plan of a PVH guest: where its memory is, what is written into it, and its first context."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.abi import hvm_save, hvm_start_info
from pyxc.abi.hvm import HvmParam
from pyxc.abi.hvm_save import HvmRecordType
from pyxc.abi.layout import Interface
from pyxc.abi.memory import MemoryType
from pyxc.domain.hvm_context import HvmContext
from pyxc.domain.memory import E820Entry
from pyxc.guest import acpi
from pyxc.guest.contents import Data
from pyxc.guest.images import Kernel, NoteType
from pyxc.guest.placing import Piece, aligned, check_apart, segments

HOLE = range(0xFC000, 0x100000)
"""Frames below 4 GiB that are not memory: the devices of a PC, and the special pages."""
ACPI = range(HOLE.start, HOLE.start + 1)
"""Where the ACPI tables are."""
SPECIAL = range(0xFEFF8, 0xFF000)
"""Pages that the guest shares with its servers."""
_PAGES = {
    HvmParam.PAGING_RING_PFN: 0,
    HvmParam.MONITOR_RING_PFN: 1,
    HvmParam.SHARING_RING_PFN: 2,
    HvmParam.BUFIOREQ_PFN: 3,
    HvmParam.STORE_PFN: 4,
    HvmParam.IOREQ_PFN: 5,
    HvmParam.CONSOLE_PFN: 7,
}
"""The use of each of these pages."""
_IDENTITY = SPECIAL[6]
"""A page table of 32-bit mode that maps 4 GiB one to one: VMX needs it for a guest without paging."""
_IDENTITY_FLAGS = 0xE7
_LARGE_PAGE_BITS = 22
_RSDP = ACPI.start * PAGE_SIZE
_COMMAND_LINE_MOST = PAGE_SIZE - 1
_START_INFO_VERSION = 1
"""The version of the start info that has a memory map."""

_PROTECTED = 0x11
"""cr0: protected mode, without paging."""
_DR6, _DR7 = 0xFFFF0FF0, 0x400
_FLAT = 0xFFFFFFFF
_CODE, _DATA, _TASK = 0xC9B, 0xC93, 0x8B
_TASK_LIMIT = 0x67
_WRITE_BACK = 0x806
"""IA32_MTRR_DEF_TYPE: enabled, and write-back unless another register says otherwise."""


class PvhPlan(NamedTuple):
    """The plan of a PVH guest. `ram` are the frames that are memory, `other` further frames in use.

    `pieces` are written there; `params` and `e820` are passed to Xen; `start_info` is an address.
    """

    ram: tuple[range, ...]
    other: tuple[range, ...]
    e820: tuple[E820Entry, ...]
    pieces: tuple[Piece, ...]
    params: dict[HvmParam, int]
    entry: int
    start_info: int


def plan(
    interface: Interface,
    kernel: Kernel,
    pages: int,
    command_line: bytes = b"",
    ramdisk: Data = b"",
    vcpus: int = 1,
) -> PvhPlan:
    """Plan a guest of `pages` pages. ValueError: the command line is too long, or the memory too small.
    DecodeError: the kernel's headers or notes are invalid.

    The kernel goes where its segments say, the ramdisk behind it, and behind that the start info, which says
    where these are.
    """
    if len(command_line) > _COMMAND_LINE_MOST or b"\0" in command_line:
        text = f"the command line has {len(command_line)} bytes"
        raise ValueError(f"{text}: up to {_COMMAND_LINE_MOST} are possible, and no NUL")
    ram = memory(pages)
    e820 = _e820(ram)
    loaded = segments(kernel.elf)
    ramdisk_at = aligned(max(piece.stop for piece in loaded))
    start_info = ramdisk_at + aligned(len(ramdisk))
    info = _start_info(interface, start_info, command_line, (ramdisk_at, len(ramdisk)), e820)
    pieces = [*loaded, Piece(start_info, info)]
    if ramdisk:
        pieces.append(Piece(ramdisk_at, ramdisk))
    _check_fits(pieces, ram)
    params = {param: SPECIAL[place] for param, place in _PAGES.items()}
    shared = [Piece(gfn * PAGE_SIZE, b"", PAGE_SIZE) for gfn in SPECIAL if gfn != _IDENTITY]
    shared.append(Piece(_IDENTITY * PAGE_SIZE, _identity_table()))
    shared.append(Piece(_RSDP, acpi.tables(_RSDP, vcpus), PAGE_SIZE))
    params[HvmParam.IDENT_PT] = _IDENTITY * PAGE_SIZE
    entry = kernel.number(NoteType.PHYS32_ENTRY)
    if not any(piece.address <= entry < piece.stop for piece in loaded):
        raise errors.DecodeError(f"the kernel's entry {entry:#x} is not in any of its segments")
    return PvhPlan(ram, (ACPI, SPECIAL), e820, (*pieces, *shared), params, entry, start_info)


def memory(pages: int) -> tuple[range, ...]:
    """The frames that are memory: up to the hole below 4 GiB, and what is left above."""
    low = range(min(pages, HOLE.start))
    rest = pages - len(low)
    return (low, range(HOLE.stop, HOLE.stop + rest)) if rest else (low,)


def context(saved: HvmContext, interface: Interface, plan: PvhPlan, vcpus: int) -> HvmContext:
    """The context in which the guest starts, made from the one that Xen gave the new domain.

    vcpu 0 is about to run the kernel's first instruction, in flat 32-bit mode; the others are down.
    """
    found = {(record.type, record.instance): record.data for record in saved}
    parts = [_record(interface, HvmRecordType.HEADER, 0, bytes(found[HvmRecordType.HEADER, 0]))]
    layout = hvm_save.MTRR_STRUCT.at(interface)
    for vcpu in range(vcpus):
        fields = layout.unpack(found[HvmRecordType.MTRR, vcpu])
        data = layout.pack({**fields, "msr_mtrr_def_type": _WRITE_BACK})
        parts.append(_record(interface, HvmRecordType.MTRR, vcpu, data))
    registers = hvm_save.CPU_STRUCT.at(interface).pack(_registers(plan))
    parts.append(_record(interface, HvmRecordType.CPU, 0, registers))
    parts.append(_record(interface, HvmRecordType.END, 0, b""))
    return HvmContext(b"".join(parts), interface)


def _record(interface: Interface, kind: HvmRecordType, instance: int, data: bytes) -> bytes:
    descriptor = hvm_save.DESCRIPTOR_STRUCT.at(interface)
    return descriptor.pack({"typecode": int(kind), "instance": instance, "length": len(data)}) + data


def _registers(plan: PvhPlan) -> dict[str, int]:
    """As the boot protocol says (docs/misc/pvh of Xen): flat segments, ebx points to the start info."""
    found = {"rbx": plan.start_info, "rip": plan.entry, "cr0": _PROTECTED, "dr6": _DR6, "dr7": _DR7}
    for segment in ("cs", "ds", "es", "ss"):
        found[f"{segment}_limit"] = _FLAT
        found[f"{segment}_arbytes"] = _CODE if segment == "cs" else _DATA
    return {**found, "tr_limit": _TASK_LIMIT, "tr_arbytes": _TASK}


def _e820(ram: tuple[range, ...]) -> tuple[E820Entry, ...]:
    parts = [(frames, MemoryType.RAM) for frames in ram]
    parts += [(ACPI, MemoryType.ACPI), (SPECIAL, MemoryType.RESERVED)]
    found = [E820Entry(part.start * PAGE_SIZE, len(part) * PAGE_SIZE, kind) for part, kind in parts]
    return tuple(sorted(found))


def _start_info(
    interface: Interface,
    address: int,
    command_line: bytes,
    ramdisk: tuple[int, int],
    e820: tuple[E820Entry, ...],
) -> bytes:
    """The start info, followed by what it points to: modules, memory map, command line."""
    head = hvm_start_info.START_INFO_STRUCT.at(interface)
    module, entry = hvm_start_info.MODULE_STRUCT.at(interface), hvm_start_info.MEMORY_STRUCT.at(interface)
    modules = [ramdisk] if ramdisk[1] else []
    listed = b"".join(module.pack({"paddr": start, "size": size}) for start, size in modules)
    map_ = b"".join(
        entry.pack({"addr": part.start, "size": part.size, "type": int(part.type)}) for part in e820
    )
    modules_at = address + head.size
    map_at = modules_at + len(listed)
    fields = {
        "magic": hvm_start_info.MAGIC,
        "version": _START_INFO_VERSION,
        "nr_modules": len(modules),
        "modlist_paddr": modules_at if modules else 0,
        "cmdline_paddr": map_at + len(map_),
        "rsdp_paddr": _RSDP,
        "memmap_paddr": map_at,
        "memmap_entries": len(e820),
    }
    return head.pack(fields) + listed + map_ + command_line + b"\0"


def _identity_table() -> bytes:
    entries = range(_IDENTITY_FLAGS, 1 << 32, 1 << _LARGE_PAGE_BITS)
    return struct.pack(f"<{len(entries)}I", *entries)


def _check_fits(pieces: list[Piece], ram: tuple[range, ...]) -> None:
    """Check that everything is in memory, below 4 GiB, and that nothing overlaps."""
    check_apart(pieces)
    needed = max(piece.stop for piece in pieces)
    if needed > ram[0].stop * PAGE_SIZE:
        raise ValueError(f"the memory is too small: kernel and ramdisk need {-(-needed // 1024)} KiB")
