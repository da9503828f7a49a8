# SPDX-License-Identifier: MIT
"""The memory of a guest that is restored: allocated as the stream names its pages, and written."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import compress

from pyxc import errors
from pyxc.abi import memory
from pyxc.domain import bounds
from pyxc.domain.extents import Extents
from pyxc.domain.mapping import Mapping
from pyxc.guest import guest_memory
from pyxc.guest.guest_memory import lent
from pyxc.guest.placing import consecutive, runs
from pyxc.guest.stream.records import PageData

_LARGE = 9
_AT_ONCE = 1 << 10
_CHUNK_BITS = 12
NOT_GIVEN = (0xD, 0xF)
"""Types of page numbers without a page: BROKEN and XTAB."""
Read = Callable[[memoryview], None]
"""Fills a buffer with the contents of pages."""
_IS_GIVEN = bytes(kind not in NOT_GIVEN for kind in range(256))


def given(listed: PageData) -> array[int]:
    """The numbers of the pages that there are."""
    if not listed.types.translate(None, bytes(NOT_GIVEN)):
        return array("Q")
    mask = listed.types.translate(_IS_GIVEN)
    return listed.pfns if all(mask) else array("Q", compress(listed.pfns, mask))


class HvmMemory:
    """The pages of one PVH guest, numbered by guest frames. Threads: one at a time."""

    def __init__(self, mapping: Mapping, nr_pages: int) -> None:
        self._mapping = mapping
        self._most = bounds.frame_numbers(nr_pages)
        self._given = FrameSet()

    def give(self, listed: PageData) -> None:
        """Allocate the pages that it does not have yet, in a large extent if all pages of that are named.

        HypercallError ENOMEM: this is more than the domain may own, or than the host has. DecodeError for a
        page where no guest of its size has one: what notes them takes memory too.
        """
        small, wanted = array("Q"), given(listed)
        if wanted and max(wanted) >= self._most:
            raise errors.DecodeError(f"the guest has a page at gfn {max(wanted):#x}, too high for its memory")
        for frames in self._given.add(wanted):
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
        for _ in self._given.add(listed.pfns):
            pass

    def write(self, pages: PageData, read: Read) -> None:
        """Let the contents of allocated pages be read to where they belong."""
        with self._mapping.map(pages.pfns, writable=True) as mapped, lent(mapped) as view:
            read(view)

    def has(self, pfn: int) -> bool:
        return pfn in self._given


class FrameSet:
    """A set of frame numbers, one bit each, with memory only for the parts that are used."""

    def __init__(self) -> None:
        self._chunks: dict[int, int] = {}

    def add(self, frames: array[int]) -> Iterator[range]:
        """Add frames; yields those that are new, in the same order."""
        for run in consecutive(frames):
            start = run.start
            while start < run.stop:
                number = start >> _CHUNK_BITS
                stop = min(run.stop, (number + 1) << _CHUNK_BITS)
                yield from self._add(number, range(start, stop))
                start = stop

    def _add(self, number: int, part: range) -> Iterator[range]:
        first = number << _CHUNK_BITS
        present = self._chunks.get(number, 0)
        added = ((1 << len(part)) - 1) << part.start - first
        self._chunks[number] = present | added
        if not present & added:
            yield part
        elif present & added != added:
            yield from consecutive(array("Q", [frame for frame in part if not present >> frame - first & 1]))

    def __contains__(self, frame: int) -> bool:
        number, bit = divmod(frame, 1 << _CHUNK_BITS)
        return bool(self._chunks.get(number, 0) >> bit & 1)
