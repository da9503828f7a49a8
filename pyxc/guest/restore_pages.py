# SPDX-License-Identifier: MIT
"""The memory of a guest that is restored: allocated as the stream names its pages, and written."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from pyxc.abi import memory
from pyxc.domain.extents import Extents
from pyxc.domain.mapping import Mapping
from pyxc.guest import guest_memory
from pyxc.guest.placing import consecutive, runs
from pyxc.guest.stream.records import PageData, Pages

_LARGE = 9
_AT_ONCE = 1 << 10
_CHUNK_BITS = 15
NOT_GIVEN = (0xD, 0xF)
"""Types of page numbers without a page: BROKEN and XTAB."""


class HvmMemory:
    """The pages of one PVH guest, numbered by guest frames. Threads: one at a time."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._given = _FrameSet()

    def give(self, listed: PageData) -> None:
        """Allocate the pages that it does not have yet, in a large extent if all pages of that are named.

        HypercallError ENOMEM: this is more than the domain may own, or than the host has.
        """
        new = self._given.add(pfn for pfn, kind in zip(listed.pfns, listed.types) if kind not in NOT_GIVEN)
        small = array("Q")
        for frames in consecutive(new):
            for run in runs(frames, (_LARGE, 0)):
                part = range(run.first, run.first + (run.extents << run.order))
                if run.order:
                    for _ in guest_memory.populate(self._mapping, part, (_LARGE, 0)):
                        pass
                else:
                    small.extend(part)
        if small:
            Extents(self._mapping, 0, _AT_ONCE).reserve(memory.POPULATE_PHYSMAP, small)

    def adopt(self, listed: PageData) -> None:
        """Note pages that it has already."""
        self._given.add(iter(listed.pfns))

    def write(self, pages: Pages) -> None:
        """Write the contents of allocated pages."""
        if pages.pfns:
            with self._mapping.map(pages.pfns, writable=True) as mapped, memoryview(mapped) as view:
                view[:] = pages.data

    def has(self, pfn: int) -> bool:
        return pfn in self._given


class _FrameSet:
    """A set of frame numbers, one bit each, with memory only for the parts that are used."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def add(self, frames: Iterator[int]) -> array[int]:
        """Add frames; returns those that are new, in the same order."""
        new, chunks = array("Q"), self._chunks
        for frame in frames:
            chunk = chunks.get(frame >> _CHUNK_BITS)
            if chunk is None:
                chunk = chunks[frame >> _CHUNK_BITS] = bytearray(1 << _CHUNK_BITS - 3)
            place = frame >> 3 & (1 << _CHUNK_BITS - 3) - 1
            if not chunk[place] >> (frame & 7) & 1:
                chunk[place] |= 1 << (frame & 7)
                new.append(frame)
        return new

    def __contains__(self, frame: int) -> bool:
        chunk = self._chunks.get(frame >> _CHUNK_BITS)
        return chunk is not None and bool(chunk[frame >> 3 & (1 << _CHUNK_BITS - 3) - 1] >> (frame & 7) & 1)
