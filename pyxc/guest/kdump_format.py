# SPDX-License-Identifier: MIT
"""The file format of compressed dumps of Linux, kdump (diskdump), which makedumpfile writes and describes.

Blocks of a page each: a header, a second one with the notes, a bitmap of the frames with memory and one of
those in the file, then a descriptor for each frame in the file, and the contents (diskdump_mod.h, version 6).
"""

from __future__ import annotations

import struct
from array import array
from itertools import chain

from pyxc._core import PAGE_SIZE
from pyxc.guest.pages_source import runs

ZLIB = 1
"""Of a page: compressed by zlib. Otherwise it is as it was."""
_SIGNATURE = b"KDUMP   "
_VERSION = 6
_HEADER = struct.Struct("<8si65s65s65s65s65s65s6x16xIiiIIIIIIi")
_SECOND = struct.Struct("<Qii2Q6Q3Q")
DESCRIPTOR = struct.Struct("<QIIQ")
_SYSTEM = b"Linux\0pyxc"
"""The name of the system, and whether a file is one that may be replaced."""
_MACHINE = b"x86_64"
_UNKNOWN = "-"
"""libkdumpfile takes an empty release or version for a damaged header."""
_SYSTEM_AT = 12


def is_kdump(head: bytes) -> bool:
    """Whether a file that begins like this is a compressed dump written by pyxc."""
    return head.startswith(_SIGNATURE) and head.startswith(_SYSTEM + b"\0", _SYSTEM_AT)


def begin(gfns: array[int], nr_cpus: int, notes: bytes, text: bytes, release: str, phys_base: int) -> bytes:
    """What comes before the descriptors of pages. `text` is VMCOREINFO, empty if there is none."""
    most = gfns[-1] + 1 if gfns else 0
    extra = notes + text
    second_blocks = _blocks(_SECOND.size + len(extra))
    bitmap = _bitmap(gfns, most)
    notes_at = PAGE_SIZE + _SECOND.size
    names = (_SYSTEM, b"", (release or _UNKNOWN).encode(), _UNKNOWN.encode(), _MACHINE, b"")
    header = _HEADER.pack(
        _SIGNATURE, _VERSION, *names, ZLIB, PAGE_SIZE, second_blocks, 2 * len(bitmap) // PAGE_SIZE,
        min(most, 2**32 - 1), len(gfns) & 2**32 - 1, 0, len(gfns) & 2**32 - 1, 0, nr_cpus,
    )  # fmt: skip
    second = _SECOND.pack(
        phys_base & 2**64 - 1, 0, 0, 0, 0, notes_at + len(notes) if text else 0, len(text), notes_at,
        len(notes), 0, 0, 0, most, most,
    )  # fmt: skip
    blocks = header.ljust(PAGE_SIZE, b"\0") + (second + extra).ljust(second_blocks * PAGE_SIZE, b"\0")
    return blocks + bytes(bitmap) * 2


def _bitmap(gfns: array[int], most: int) -> bytearray:
    """A bit for each frame up to the last one."""
    bitmap = bytearray(_blocks((most + 7) // 8) * PAGE_SIZE)
    for run in runs(gfns):
        first, stop = -(-run.start // 8), run.stop // 8
        if first < stop:
            bitmap[first:stop] = b"\xff" * (stop - first)
        ends = (run.start, min(8 * first, run.stop)), (max(8 * stop, run.start), run.stop)
        for frame in chain.from_iterable(range(*end) for end in ends):
            bitmap[frame // 8] |= 1 << frame % 8
    return bitmap


def _blocks(size: int) -> int:
    return -(-size // PAGE_SIZE)
