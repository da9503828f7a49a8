# SPDX-License-Identifier: MIT
"""The file format of core dumps of domains (docs/misc/dump-core-format.txt of Xen, version 0.1).

An ELF file without program headers. Its sections, in this order: notes, the contexts of vcpus, shared_info,
the pages, and which guest frames they are. The names of sections are at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

_MACHINES = {"x86_64": 62, "ppc64": 21}
_CLASS_64, _VERSION, _SYSV, _CORE = 2, 1, 0, 4
_PROGBITS, _STRTAB, _NOTE = 1, 3, 7
_HEADER = "16sHHIQQQIHHHHHH"
_SECTION = "IIQQQQIIQQ"
HEADER_SIZE = struct.calcsize(f"<{_HEADER}")
SECTION_SIZE = struct.calcsize(f"<{_SECTION}")
_PROGRAM_SIZE = 56
"""What e_phentsize says, although there are no program headers."""
_NAMES = ".shstrtab"
_NAMES_INDEX = 1
OWNER = b"Xen\0"
_PAGE = 4096

NONE, HEADER, XEN_VERSION, FORMAT_VERSION = range(0x2000000, 0x2000004)
"""Types of notes (XEN_ELFNOTE_DUMPCORE_*, public/elfnote.h)."""
MAGIC_PV, MAGIC_HVM = 0xF00FEBED, 0xF00FEBEE
VERSION = 1
"""The minor version in the lower half, the major one above."""
INVALID = 2**64 - 1
"""The frame of a page that stands for none."""


Progress = Callable[[int, int], None]
"""Is called with the pages that are done, and with all."""


def is_core(head: bytes) -> bool:
    """Whether a file that begins like this is a core dump of a domain.

    In contrast to that of a process, it has no program headers.
    """
    if len(head) < HEADER_SIZE or not head.startswith(b"\x7fELF"):
        return False
    fields = struct.unpack_from(("<" if head[5] == 1 else ">") + _HEADER, head)
    return (fields[1], fields[10]) == (_CORE, 0)


def unpack_header(data: bytes) -> tuple[int, ...]:
    """The fields of the header of a little-endian file."""
    return struct.unpack_from(f"<{_HEADER}", data)


def unpack_sections(data: bytes) -> Iterator[tuple[int, ...]]:
    """The fields of each header of a section."""
    return struct.iter_unpack(f"<{_SECTION}", data)


class Section(NamedTuple):
    """A part of the file: its name, how long it is, and how it is aligned and divided."""

    name: str
    size: int
    align: int
    entry: int
    kind: int = _PROGBITS


def note_section(notes: bytes) -> Section:
    return Section(".note.Xen", len(notes), 0, 0, _NOTE)


def note(order: str, kind: int, content: bytes = b"") -> bytes:
    """One note; its content fills whole words. `order` is "<" or ">"."""
    return struct.pack(f"{order}III", len(OWNER), len(content), kind) + OWNER + content


def begin(order: str, arch: str, sections: Sequence[Section]) -> bytes:
    """The ELF header and the headers of the sections, which follow each other in the file.

    A section that is aligned to a page begins at a whole page; padding() is what comes before.
    """
    text = names(sections)
    at = HEADER_SIZE + (2 + len(sections)) * SECTION_SIZE
    places = []
    for section in sections:
        at += padding(at, section)
        places.append(at)
        at += section.size
    every = [Section("", 0, 0, 0, 0), Section(_NAMES, len(text), 0, 0, _STRTAB), *sections]
    headers = b"".join(
        struct.pack(
            order + _SECTION, text.index(section.name.encode() + b"\0"), section.kind, 0, 0, place,
            section.size, 0, 0, section.align, section.entry,
        )
        for section, place in zip(every, [0, at, *places])
    )  # fmt: skip
    ident = b"\x7fELF" + bytes([_CLASS_64, 1 if order == "<" else 2, _VERSION, _SYSV, _VERSION])
    header = struct.pack(
        order + _HEADER, ident, _CORE, _MACHINES[arch], _VERSION, 0, 0, HEADER_SIZE, 0, HEADER_SIZE,
        _PROGRAM_SIZE, 0, SECTION_SIZE, len(every), _NAMES_INDEX,
    )  # fmt: skip
    return header + headers


def padding(at: int, section: Section) -> int:
    """Bytes between a place in the file and a section that comes next."""
    return -at % _PAGE if section.align == _PAGE else 0


def names(sections: Sequence[Section]) -> bytes:
    """What ends the file: the names of its sections."""
    return b"".join(name.encode() + b"\0" for name in ("", _NAMES, *(section.name for section in sections)))
