# SPDX-License-Identifier: MIT
"""Kernels for the guests of simulated hosts: ELF files that a toolstack can read and load."""

from __future__ import annotations

import struct
from typing import Literal

KernelKind = Literal["pv", "pvh", "pv32"]

VIRT_BASE = {"pv": 0xFFFF_FFFF_8000_0000, "pv32": 0xC000_0000, "pvh": 0}
_START = {"pv": 0x20_0000, "pv32": 0x10_0000, "pvh": 0x10_0000}
_CODE = b"\xf4\xeb\xfd"  # hlt; jmp back to it
_LOADED = 0x1000
"""Where the loaded part begins in the file."""
_PT_LOAD, _PT_NOTE = 1, 4
_ET_EXEC = 2
_MACHINE = {"pv": 62, "pv32": 3, "pvh": 3}


def kernel(kind: KernelKind = "pvh", size: int = 0x3000) -> bytes:
    """A kernel that does nothing, of one segment of `size` bytes in memory.

    "pvh" is a 32-bit one for PVH guests, "pv" a 64-bit and "pv32" a 32-bit one for PV guests.
    """
    start, base, wide = _START[kind], VIRT_BASE[kind], kind == "pv"
    notes = b"".join(_note(number, data) for number, data in _notes(kind, base + start).items())
    content = _CODE.ljust(64, b"\0") + notes
    headers = [
        (_PT_LOAD, _LOADED, base + start, start, len(content), size),
        (_PT_NOTE, _LOADED + 64, base + start + 64, start + 64, len(notes), len(notes)),
    ]
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]).ljust(12, b"\0")
    layout, sizes = ("<16sHHIQQQIHHHHHH", (64, 56)) if wide else ("<16sHHIIIIIHHHHHH", (52, 32))
    fields = (_ET_EXEC, _MACHINE[kind], 1, base + start, sizes[0], 0, 0, *sizes, len(headers), 0, 0, 0)
    head = struct.pack(layout, identity, *fields)
    return (head + b"".join(_program(wide, *header) for header in headers)).ljust(_LOADED, b"\0") + content


def _notes(kind: KernelKind, entry: int) -> dict[int, bytes]:
    """The notes by which Xen's toolstacks know what to do with a kernel (public/elfnote.h)."""
    if kind == "pvh":
        return {18: struct.pack("<I", entry)}
    number = "<Q" if kind == "pv" else "<I"
    notes = {
        6: b"linux\0",
        8: b"generic\0",
        5: b"xen-3.0\0",
        3: struct.pack(number, VIRT_BASE[kind]),
        4: struct.pack(number, 0),
        1: struct.pack(number, entry),
    }
    return notes if kind == "pv" else {**notes, 9: b"yes\0"}


def _note(number: int, data: bytes) -> bytes:
    return struct.pack("<III4s", 4, len(data), number, b"Xen\0") + data.ljust(-(-len(data) // 4) * 4, b"\0")


def _program(wide: bool, kind: int, offset: int, vaddr: int, paddr: int, in_file: int, size: int) -> bytes:
    """A program header, for reading, writing and executing."""
    if wide:
        return struct.pack("<IIQQQQQQ", kind, 7, offset, vaddr, paddr, in_file, size, 4096)
    return struct.pack("<IIIIIIII", kind, offset, vaddr, paddr, in_file, size, 7, 4096)
