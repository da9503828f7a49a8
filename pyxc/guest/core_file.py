# SPDX-License-Identifier: MIT
"""Core dumps of domains, read: those of dump_core() and those of `xl dump-core`.

A dump may come from anywhere: each offset, size and count is checked before it is used, and an invalid one
is a DecodeError that names its place in the file. What is kept in memory is the list of frames: 8 or 16 bytes
for each page.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from operator import lt
from types import TracebackType
from typing import NamedTuple, Self

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.abi.layout import Interface
from pyxc.abi.page import MOST_FRAME
from pyxc.domain.registers import VcpuContext
from pyxc.files.opened import open_checked
from pyxc.guest import core_format, kdump_format, vmcore_format
from pyxc.guest.core_format import INVALID
from pyxc.guest.pages_source import runs

_MOST_SECTIONS = 64
_MOST_NAMES = 1 << 12
_MOST_NOTES = 1 << 16
_MOST_VCPUS = 1 << 13
_MOST_READ = 1 << 18
"""Pages in one read: 1 GiB."""
_LAYOUTS = Interface((4, 17))
"""The registers of x86 have the same layout in all releases."""
_AT_ONCE = 1 << 20
"""Bytes of a list of frames: a sparse file has whole pieces without any, and is refused at the first."""
_NOTE_HEADER = struct.Struct("<III")
_VERSION = struct.Struct("<2Q16s64s16s32s32s1024s64s2Q")


class DumpedBy(NamedTuple):
    """The Xen that a domain ran on, as it described itself; `virt_start` is where its own memory begins."""

    major: int
    minor: int
    extra: str
    compiler: str
    compiled_by: str
    compiled_at: str
    compile_date: str
    capabilities: tuple[str, ...]
    changeset: str
    virt_start: int

    @property
    def release(self) -> str:
        """As in "4.17.6"."""
        return f"{self.major}.{self.minor}{self.extra}"


class CoreFile:
    """A core dump in Xen's format, opened for reading. Threads: safe to share.

    `gfns` are the guest frames of its pages in ascending order (array of u64): pfns of a PV domain. `frames`
    are the machine frames of a PV domain's pages; of other domains it is the same array. `contexts` are the
    registers of the vcpus that had any. `bits` is the width of the guest. `nr_missing` is how many pages
    could not be read when the dump was written. `xen` is None if the dump does not say.

    DecodeError for a file that is not such a dump, or is damaged; OSError.

    Example:

    >>> dump = build.dump_core("build.core")
    >>> with CoreFile("build.core") as core:
    ...     core, core.xen.release, core.nr_missing, list(core.ranges())
    (<CoreFile of a 64-bit PV domain, 8192 pages, vcpus 1>, '4.17.7', 0, [range(0, 8192)])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._fd = open_checked(path, _check_regular)
        try:
            self.size_bytes = os.fstat(self._fd).st_size
            self._read_all()
        except BaseException:
            self.close()
            raise

    def _read_all(self) -> None:
        sections = dict(self._sections())
        notes = dict(self._notes(self._needed(sections, ".note.Xen")))
        if core_format.HEADER not in notes:
            raise errors.DecodeError("the dump has no note with its size: it is not a dump of Xen")
        magic, nr_vcpus, nr_pages = self._header(*notes[core_format.HEADER])
        self.is_hvm = magic == core_format.MAGIC_HVM
        self.xen = _dumped_by(*notes[core_format.XEN_VERSION]) if core_format.XEN_VERSION in notes else None
        pages = self._needed(sections, ".xen_pages")
        self._check_size(".xen_pages", pages, nr_pages * PAGE_SIZE)
        self._pages_at = pages.offset
        self._read_frames(sections, nr_pages)
        self._read_contexts(self._needed(sections, ".xen_prstatus"), nr_vcpus)

    # The ELF file.

    def _sections(self) -> Iterator[tuple[str, _Place]]:
        head = self._bytes("the ELF header", 0, core_format.HEADER_SIZE)
        if not core_format.is_core(head):
            raise errors.DecodeError(f"at byte 0x0: this is not a core dump in Xen's format{_what(head)}")
        if head[4:6] != bytes([2, 1]):
            raise errors.DecodeError("at byte 0x4: only 64-bit little-endian dumps can be read")
        fields = core_format.unpack_header(head)
        offset, size, count, names = fields[6], fields[11], fields[12], fields[13]
        if not 0 < count <= _MOST_SECTIONS or names >= count or size != core_format.SECTION_SIZE:
            raise errors.DecodeError(
                f"at byte 0x3a: {count} section headers of {size} bytes, names in section {names}"
            )
        headers = list(core_format.unpack_sections(self._bytes("section headers", offset, size * count)))
        at, length = headers[names][4], headers[names][5]
        if length > _MOST_NAMES:
            raise errors.DecodeError(f"at byte {at:#x}: the names of sections have {length} bytes")
        text = self._bytes("the names of sections", at, length)
        for header in headers:
            name = text[header[0] :].partition(b"\0")[0].decode("ascii", "replace")
            yield name, _Place(header[4], header[5], header[9])

    def _needed(self, sections: dict[str, _Place], name: str) -> _Place:
        if name not in sections:
            raise errors.DecodeError(f"the dump has no section {name}: it is not a dump of Xen")
        return sections[name]

    def _notes(self, place: _Place) -> Iterator[tuple[int, tuple[int, bytes]]]:
        """Types of Xen's notes, with where they are and what they have."""
        if place.size > _MOST_NOTES:
            raise errors.DecodeError(f"at byte {place.offset:#x}: the notes have {place.size} bytes")
        data = self._bytes("notes", place.offset, place.size)
        at = 0
        while at + _NOTE_HEADER.size <= len(data):
            name_size, size, kind = _NOTE_HEADER.unpack_from(data, at)
            name_at = at + _NOTE_HEADER.size
            content_at = name_at + _aligned(name_size)
            end = content_at + _aligned(size)
            if content_at + size > len(data):
                raise errors.DecodeError(f"at byte {place.offset + at:#x}: a note ends beyond its section")
            if data[name_at : name_at + name_size] == core_format.OWNER:
                yield kind, (place.offset + content_at, data[content_at : content_at + size])
            at = end

    def _header(self, at: int, content: bytes) -> tuple[int, int, int]:
        if len(content) != 32:
            raise errors.DecodeError(
                f"at byte {at:#x}: the note with the dump's size has {len(content)} bytes"
            )
        magic, nr_vcpus, nr_pages, page_size = struct.unpack("<4Q", content)
        if magic not in (core_format.MAGIC_PV, core_format.MAGIC_HVM):
            raise errors.DecodeError(f"at byte {at:#x}: the dump is of kind {magic:#x}, neither PV nor HVM")
        if page_size != PAGE_SIZE or nr_vcpus > _MOST_VCPUS or nr_pages > self.size_bytes // PAGE_SIZE:
            raise errors.DecodeError(
                f"at byte {at:#x}: {nr_vcpus} vcpus, {nr_pages} pages of {page_size} bytes cannot be"
            )
        return magic, nr_vcpus, nr_pages

    @staticmethod
    def _check_size(name: str, place: _Place, size: int) -> None:
        if place.size != size:
            raise errors.DecodeError(
                f"at byte {place.offset:#x}: section {name} has {place.size} bytes instead of {size}"
            )

    def _bytes(self, what: str, offset: int, size: int) -> bytes:
        if offset + size > self.size_bytes:
            raise errors.DecodeError(
                f"at byte {offset:#x}: {what} of {size} bytes end beyond the file ({self.size_bytes})"
            )
        pieces = []
        while size:
            piece = os.pread(self._fd, size, offset)
            if not piece:
                raise errors.DecodeError(f"at byte {offset:#x}: the file was cut off while it was read")
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # What it says of the guest.

    def _read_frames(self, sections: dict[str, _Place], nr_pages: int) -> None:
        name, columns = (".xen_pfn", 1) if self.is_hvm else (".xen_p2m", 2)
        place = self._needed(sections, name)
        self._check_size(name, place, 8 * columns * nr_pages)
        words = array("Q")
        for start in range(0, place.size, _AT_ONCE):
            piece = self._bytes(f"section {name}", place.offset + start, min(_AT_ONCE, place.size - start))
            words.frombytes(piece)
            if len(piece) > 32 and not any(piece):
                raise errors.DecodeError(f"at byte {place.offset + start:#x}: {name} lists nothing but zeros")
        if sys.byteorder == "big":
            words.byteswap()
        self.gfns = words if columns == 1 else words[::2]
        self.frames = self.gfns if columns == 1 else words[1::2]
        known = self.gfns.index(INVALID) if INVALID in self.gfns else nr_pages
        self.nr_missing = nr_pages - known
        if self.gfns[known:].count(INVALID) != self.nr_missing:
            raise errors.DecodeError(f"at byte {place.offset:#x}: {name} has a page after those left out")
        del self.gfns[known:]
        if columns == 2:
            del self.frames[known:]
        if not all(map(lt, self.gfns, islice(self.gfns, 1, None))):
            raise errors.DecodeError(f"at byte {place.offset:#x}: the frames of {name} do not ascend")
        if known and max(self.gfns[-1], max(self.frames)) > MOST_FRAME:
            raise errors.DecodeError(f"at byte {place.offset:#x}: {name} has the number of no frame")

    def _read_contexts(self, place: _Place, nr_vcpus: int) -> None:
        wide, narrow = (VcpuContext.size(bits, _LAYOUTS) for bits in (64, 32))
        entry = place.entry
        if entry not in (wide, narrow):
            raise errors.DecodeError(
                f"at byte {place.offset:#x}: the registers of a vcpu have {entry} bytes: not of x86"
            )
        self._check_size(".xen_prstatus", place, entry * nr_vcpus)
        data = self._bytes("registers", place.offset, place.size)
        each = [data[start : start + entry] for start in range(0, place.size, entry)]
        self.bits = 32 if entry == narrow or _are_narrow(each, self.is_hvm, narrow) else 64
        self.contexts = [VcpuContext.decode(one, self.bits, _LAYOUTS) for one in each]

    # Its pages.

    def ranges(self) -> Iterator[range]:
        """Its guest frames, as ranges without a hole."""
        return runs(self.gfns)

    def read(self, gfn: int, count: int = 1) -> bytes:
        """The contents of guest frames. NotMapped if the dump does not have all of them."""
        if not 0 <= gfn <= MOST_FRAME or not 0 < count <= _MOST_READ:
            raise ValueError(f"{count} pages from gfn {gfn:#x}: out of range")
        place = bisect_left(self.gfns, gfn)
        for offset in range(count):
            if place + offset >= len(self.gfns) or self.gfns[place + offset] != gfn + offset:
                raise errors.NotMapped((gfn + offset) * PAGE_SIZE, "the dump does not have that page")
        return self.pages(place, count)

    def pages(self, first: int, count: int) -> bytes:
        """Some pages by their place in the dump, from 0."""
        return self._bytes("pages", self._pages_at + first * PAGE_SIZE, count * PAGE_SIZE)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        kind = "HVM" if self.is_hvm else f"{self.bits}-bit PV"
        return f"<CoreFile of a {kind} domain, {len(self.gfns)} pages, vcpus {len(self.contexts)}>"


class _Place(NamedTuple):
    """Where a section is, its size, and that of its entries."""

    offset: int
    size: int
    entry: int


def _are_narrow(contexts: list[bytes], is_hvm: bool, narrow: int) -> bool:
    """Whether they are those of a 32-bit PV guest, which fill the first part of the space for any guest's.

    The last part of a 64-bit guest's is not empty: it has the root of the page tables.
    """
    rest = any(any(context[narrow:]) for context in contexts)
    return not is_hvm and not rest and any(map(any, contexts))


def _dumped_by(at: int, content: bytes) -> DumpedBy:
    if len(content) != _VERSION.size:
        raise errors.DecodeError(f"at byte {at:#x}: the note on Xen's version has {len(content)} bytes")
    major, minor, *texts, virt_start, _ = _VERSION.unpack(content)
    extra, compiler, who, where, date, capabilities, changeset = map(_text, texts)
    return DumpedBy(
        major, minor, extra, compiler, who, where, date, tuple(capabilities.split()), changeset, virt_start
    )


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("ascii", "replace")


def _aligned(size: int) -> int:
    return -(-size // 4) * 4


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise errors.DecodeError("this is not a regular file")


def _what(head: bytes) -> str:
    """What else a file that begins like this may be, for the end of a sentence."""
    if vmcore_format.is_vmcore(head) or kdump_format.is_kdump(head):
        return ", but one for the tools of Linux, such as drgn and crash"
    return ""
