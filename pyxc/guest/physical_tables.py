# SPDX-License-Identifier: MIT
"""Page tables of 64-bit PV guests as if the guest ran without Xen: guest frames in place of machine frames.

Tools that read dumps of Linux walk page tables, and know nothing of machine frames. The tables that the vcpus
and the kernel use are rewritten, those of processes that do not run are not. crash does know of them, and
tells by the kernel's pointer to its start_info, which becomes null. The guest controls all of this: each page
is a table at most once for each level, and what may be that pointer is looked at a limited number of times.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterator
from functools import cached_property

from pyxc._core import PAGE_SIZE
from pyxc.abi.arch.x86 import PTE_FRAME_MASK, PTE_PRESENT, PTE_PSE
from pyxc.domain import paging
from pyxc.domain.paging import Hole, Paging
from pyxc.errors import DecodeError
from pyxc.guest import vmcoreinfo
from pyxc.guest.pages_source import AT_ONCE, PagesSource

_LEVELS = 4
_XENS_SLOTS = slice(256, 272)
"""Entries of the top table that are Xen's own."""
_DATA_BEFORE, _DATA_PAGES = 512, 8192
"""Where the kernel's data are, from its top table on."""
_START_INFO = b"xen-3.0-x86_64\0"
_MOST_POINTERS = 4096
_POINTER = re.compile(rb"(?<=\x00[%b].{3}[\x80-\xff])\xff\xff" % bytes(range(0, 256, 16)), re.DOTALL)
"""The end of a word that is an address of the kernel, and that of a page."""
_CHUNK_BITS = 6
_CHUNK = 1 << _CHUNK_BITS
_NONE = 2**64 - 1


class _Places:
    """Where in a dump the page with a machine frame is: 8 bytes for each frame, wherever the frames are."""

    def __init__(self, frames: array[int]) -> None:
        self._chunks: dict[int, array[int]] = {}
        empty = array("Q", [_NONE]) * _CHUNK
        for place, frame in enumerate(frames):
            chunk = self._chunks.get(frame >> _CHUNK_BITS)
            if chunk is None:
                chunk = self._chunks[frame >> _CHUNK_BITS] = empty[:]
            chunk[frame & _CHUNK - 1] = place

    def get(self, frame: int) -> int | None:
        chunk = self._chunks.get(frame >> _CHUNK_BITS)
        place = _NONE if chunk is None else chunk[frame & _CHUNK - 1]
        return None if place == _NONE else place


class PhysicalTables:
    """Rewrites the page tables of a 64-bit PV guest. Threads: one at a time.

    `text` is the VMCOREINFO of the guest, which names the kernel's own top table.
    """

    def __init__(self, source: PagesSource, text: bytes | None) -> None:
        self._source = source
        self._places = _Places(source.frames)
        self._tops: set[int] = set()
        self.tables: set[int] = set()
        """Places in the dump of the pages that are tables."""
        roots = self._roots()
        swapper = None if text is None else vmcoreinfo.symbol(text, "swapper_pg_dir")
        found = {self._translated(root, swapper) for root in roots} if swapper is not None else set()
        self._kernels = {place for place in found if place is not None}
        self._mark(roots | self._kernels)

    def _roots(self) -> set[int]:
        roots = set()
        for context in self._source.contexts:
            for name in ("cr3", "cr1"):  # Xen puts the tables of the vcpu's program into cr1
                place = self._places.get((context[name] & PTE_FRAME_MASK) >> paging.PAGE_BITS)
                if place is not None and context[name]:
                    roots.add(place)
        return roots

    def _translated(self, root: int, address: int) -> int | None:
        """The place of the page at a virtual address."""
        how = Paging(_LEVELS, self._source.frames[root] * PAGE_SIZE, pv=True)
        try:
            found = paging.walk(how, address, self._word)
        except DecodeError:
            return None
        return None if isinstance(found, Hole) else self._places.get(found.frame)

    def _word(self, frame: int, offset: int, size: int) -> int:
        place = self._places.get(frame)
        if place is None:
            raise DecodeError(f"the page tables name machine frame {frame:#x}, which the dump does not have")
        return int.from_bytes(self._source.pages(place, 1)[offset : offset + size], "little")

    def _mark(self, roots: set[int]) -> None:
        """Find all tables, level by level; the lowest ones need not be read for that."""
        self._tops = roots
        self.tables |= roots
        level = roots
        for _ in range(_LEVELS - 1):
            below = set()
            for place in level:
                for entry in self._entries(place, self._source.pages(place, 1)):
                    if entry & (PTE_PRESENT | PTE_PSE) == PTE_PRESENT:
                        found = self._places.get((entry & PTE_FRAME_MASK) >> paging.PAGE_BITS)
                        if found is not None:
                            below.add(found)
            self.tables |= below
            level = below

    def _entries(self, place: int, page: bytes) -> array[int]:
        entries = array("Q", page)
        if sys.byteorder == "big":
            entries.byteswap()
        if place in self._tops:
            entries[_XENS_SLOTS] = array("Q", bytes(8 * (_XENS_SLOTS.stop - _XENS_SLOTS.start)))
        return entries

    @cached_property
    def _pointer(self) -> int | None:
        """Where in the dump's pages the pointer to start_info is: the only one in the data of the kernel."""
        found = {at for kernel in self._kernels for at in self._start_info_pointers(kernel)}
        return found.pop() if len(found) == 1 else None

    def _start_info_pointers(self, kernel: int) -> Iterator[int]:
        tried = 0
        stop = min(kernel + _DATA_PAGES, len(self._source.gfns))
        for first in range(max(0, kernel - _DATA_BEFORE), stop, AT_ONCE):
            data = self._source.pages(first, min(AT_ONCE, stop - first))
            for match in _POINTER.finditer(data):
                if match.end() % 8 == 0 and tried < _MOST_POINTERS:
                    tried += 1
                    address = int.from_bytes(data[match.end() - 8 : match.end()], "little")
                    place = self._translated(kernel, address)
                    if place is not None and self._source.pages(place, 1).startswith(_START_INFO):
                        yield first * PAGE_SIZE + match.end() - 8

    def rewritten(self, first: int, pages: bytes) -> bytes:
        """Pages of the dump from a place on, with their tables rewritten, and without that pointer."""
        places = [first + at for at in range(len(pages) // PAGE_SIZE) if first + at in self.tables]
        at = -1 if self._pointer is None else self._pointer - first * PAGE_SIZE
        has_pointer = 0 <= at < len(pages)
        if not places and not has_pointer:
            return pages
        changed = bytearray(pages)
        if has_pointer:
            changed[at : at + 8] = bytes(8)
        for place in places:
            start = (place - first) * PAGE_SIZE
            changed[start : start + PAGE_SIZE] = self.table(place, pages[start : start + PAGE_SIZE])
        return bytes(changed)

    def table(self, place: int, page: bytes) -> bytes:
        """A table with guest frames, without the entries for memory of others."""
        entries = self._entries(place, page)
        gfns = self._source.gfns
        for index, entry in enumerate(entries):
            if entry & PTE_PRESENT:
                found = self._places.get((entry & PTE_FRAME_MASK) >> paging.PAGE_BITS)
                frame = 0 if found is None else gfns[found] << paging.PAGE_BITS | entry & ~PTE_FRAME_MASK
                entries[index] = frame
        if sys.byteorder == "big":
            entries.byteswap()
        return entries.tobytes()
