# SPDX-License-Identifier: MIT
"""ELF images of kernels: their segments and their notes.

An image may come from a guest's own disk: every offset and count is checked before it is used, and an
invalid one is a DecodeError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pyxc import errors

MAGIC = b"\x7fELF"
_LITTLE_ENDIAN = 1
_PT_LOAD, _PT_NOTE, _SHT_NOTE = 1, 4, 7
_MOST_HEADERS = 1 << 10
"""Program or section headers; a vmlinux has about 10 and 80."""
_MOST_NOTES = 1 << 10
_MOST_ADDRESS = 1 << 64
_NOTE = struct.Struct("<III")
_NOTE_ALIGNED = 4


class _Class(NamedTuple):
    """The offsets of an ELF class: fields of the file header, of program and of section headers.

    The fields are e_phoff, e_shoff; p_offset, p_vaddr, p_paddr, p_filesz, p_memsz; sh_offset, sh_size.
    """

    bits: int
    header: struct.Struct
    program: struct.Struct
    program_order: tuple[int, ...]
    section: struct.Struct


_CLASSES = {
    1: _Class(32, struct.Struct("<16sHHIIIIIHHHHHH"), struct.Struct("<IIIIIIII"), (1, 2, 3, 4, 5),
              struct.Struct("<IIIIIIIIII")),
    2: _Class(64, struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), (2, 3, 4, 5, 6),
              struct.Struct("<IIQQQQIIQQ")),
}  # fmt: skip


class Segment(NamedTuple):
    """A segment to load: `data` at physical address `paddr`, followed by zeros, `size` bytes in all."""

    paddr: int
    vaddr: int
    size: int
    data: memoryview

    def __repr__(self) -> str:
        return f"<Segment {self.paddr:#x}, {self.size} bytes, of them {len(self.data)} in the file>"


class Note(NamedTuple):
    """A note: who defined it, its type, and its contents."""

    name: bytes
    type: int
    data: bytes


class Elf(NamedTuple):
    """An ELF executable; `segments` in the order of the file, `machine` is as in elf.h, `bits` are 32, 64."""

    bits: int
    machine: int
    entry: int
    segments: tuple[Segment, ...]
    notes: tuple[Note, ...]

    @classmethod
    def decode(cls, data: bytes) -> Elf:
        """Decode an image. DecodeError for anything but a little-endian ELF file that can be loaded."""
        kind = _class_of(data)
        fields = kind.header.unpack_from(data)
        machine, entry, phoff, shoff = fields[2], fields[4], fields[5], fields[6]
        programs = list(_headers(data, "program", phoff, fields[9], fields[10], kind.program))
        sections = list(_headers(data, "section", shoff, fields[11], fields[12], kind.section))
        segments = tuple(_segments(data, kind, programs))
        if not segments:
            raise errors.DecodeError("the ELF file has no segment to load")
        return cls(kind.bits, machine, entry, segments, tuple(_notes(data, kind, programs, sections)))


def _class_of(data: bytes) -> _Class:
    if data[:4] != MAGIC:
        raise errors.DecodeError("the kernel is not an ELF file")
    kind = _CLASSES.get(data[4] if len(data) > 4 else 0)
    if kind is None or len(data) < kind.header.size:
        raise errors.DecodeError("the ELF file ends in its header, or is neither of 32 nor of 64 bits")
    if data[5] != _LITTLE_ENDIAN:
        raise errors.DecodeError("the ELF file is not little-endian: it is for another processor than x86")
    return kind


def _headers(
    data: bytes, what: str, offset: int, size: int, count: int, layout: struct.Struct
) -> Iterator[tuple[int, ...]]:
    """The program or section headers."""
    if count > _MOST_HEADERS:
        raise errors.DecodeError(f"the ELF file has {count} {what} headers: {_MOST_HEADERS} are enough")
    if count and size < layout.size:
        raise errors.DecodeError(f"the ELF file's {what} headers have {size} bytes instead of {layout.size}")
    if offset + size * count > len(data):
        raise errors.DecodeError(f"the ELF file ends in its {what} headers")
    for index in range(count):
        yield layout.unpack_from(data, offset + index * size)


def _segments(data: bytes, kind: _Class, programs: list[tuple[int, ...]]) -> Iterator[Segment]:
    for header in programs:
        offset, vaddr, paddr, in_file, size = (header[place] for place in kind.program_order)
        if header[0] != _PT_LOAD or not size:
            continue
        if in_file > size or paddr + size > _MOST_ADDRESS:
            raise errors.DecodeError(f"a segment of the ELF file at {paddr:#x} has a size that cannot be")
        yield Segment(paddr, vaddr, size, _part(data, "segment", offset, in_file))


def _part(data: bytes, what: str, offset: int, size: int) -> memoryview:
    if offset + size > len(data):
        raise errors.DecodeError(f"a {what} of the ELF file reaches beyond the end of the file")
    return memoryview(data)[offset : offset + size]


def _notes(
    data: bytes, kind: _Class, programs: list[tuple[int, ...]], sections: list[tuple[int, ...]]
) -> Iterator[Note]:
    """The notes of the note segments; without such segments, those of the note sections."""
    offset, _, _, in_file, _ = kind.program_order
    places = [(header[offset], header[in_file]) for header in programs if header[0] == _PT_NOTE]
    if not places:
        places = [(header[4], header[5]) for header in sections if header[1] == _SHT_NOTE]
    count = 0
    for start, size in places:
        for note in _notes_in(_part(data, "note", start, size)):
            count += 1
            if count > _MOST_NOTES:
                raise errors.DecodeError(f"the ELF file has more than {_MOST_NOTES} notes")
            yield note


def _notes_in(data: memoryview) -> Iterator[Note]:
    place = 0
    while place + _NOTE.size <= len(data):
        name_size, size, kind = _NOTE.unpack_from(data, place)
        name_at = place + _NOTE.size
        data_at = name_at + _aligned(name_size)
        place = data_at + _aligned(size)
        if data_at + size > len(data):
            raise errors.DecodeError("a note of the ELF file reaches beyond its segment")
        yield Note(bytes(data[name_at : name_at + name_size]), kind, bytes(data[data_at : data_at + size]))


def _aligned(size: int) -> int:
    return -(-size // _NOTE_ALIGNED) * _NOTE_ALIGNED
