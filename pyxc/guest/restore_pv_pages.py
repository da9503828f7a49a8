# SPDX-License-Identifier: MIT
"""The memory of a PV guest that is restored: allocated as the stream names its pages, and written."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import compress, count

from pyxc import errors
from pyxc._core import PAGE_SIZE, extent_words, pick_words
from pyxc.abi import memory, mmuext
from pyxc.abi.page import PAGE_KB
from pyxc.domain import bounds
from pyxc.domain.domain import Domain
from pyxc.domain.extents import Extents
from pyxc.domain.p2m import ABSENT
from pyxc.guest import guest_memory, pv_layout
from pyxc.guest.guest_memory import lent
from pyxc.guest.placing import consecutive, runs
from pyxc.guest.pv_layout import WIDTHS
from pyxc.guest.restore_pages import FrameSet, Read, given
from pyxc.guest.stream.records import PageData, PvP2mFrames

_LARGE = 9
_AT_ONCE = 1 << 10
_PINNED = bytes(bool(kind & 8 and pv_layout.level(kind)) for kind in range(256))
_PINS = {1: mmuext.PIN_L1_TABLE, 2: mmuext.PIN_L2_TABLE, 3: mmuext.PIN_L3_TABLE, 4: mmuext.PIN_L4_TABLE}


class PvMemory:
    """The pages of one PV guest, numbered by pfns. Threads: one at a time.

    `frames` has for each pfn its machine frame, or ABSENT. In `numbers` these are one more, and 0 for none.
    """

    def __init__(self, domain: Domain, bits: int, claimed_kb: int) -> None:
        self.domain = domain
        self.frames = array("Q")
        self.numbers = array("Q")
        self.types = bytearray()
        self._given = FrameSet()
        self._width = WIDTHS[bits]
        self._most = bounds.frame_numbers(claimed_kb // PAGE_KB)
        self._p2m_frames = array("Q")

    def extend(self, event: PvP2mFrames) -> None:
        """Note the pages of its p2m. DecodeError if these are more than a guest of its size has."""
        if event.end_pfn >= self._most:
            raise errors.DecodeError(f"the guest has pfns up to {event.end_pfn:#x}, too many for its memory")
        more = max(0, event.end_pfn + 1 - len(self.numbers))
        self.frames.extend(array("Q", [ABSENT]) * more)
        self.numbers.extend(array("Q", [0]) * more)
        self.types.extend(bytes(more))
        first = event.start_pfn * self._width.entry_bytes // PAGE_SIZE
        if first > len(self._p2m_frames):
            raise errors.DecodeError(f"the place of the p2m below pfn {event.start_pfn:#x} is unknown")
        self._p2m_frames[first : first + len(event.frames)] = event.frames

    def give(self, listed: PageData) -> None:
        """Allocate the pages that it does not have yet. HypercallError ENOMEM: this is more than the domain
        may own, or than the host has."""
        at = 0
        for part in consecutive(listed.pfns):
            self.types[part.start : part.stop] = listed.types[at : at + len(part)]
            at += len(part)
        self._allocate(given(listed))

    def _allocate(self, pfns: array[int]) -> None:
        """Those that it does not have yet, in large extents where all pages of one are named."""
        small = array("Q")
        for part in self._given.add(pfns):
            for run in runs(part, (_LARGE, 0)):
                pages = range(run.first, run.first + (run.extents << run.order))
                if not run.order:
                    small.extend(pages)
                    continue
                for done, firsts in guest_memory.populate(self.domain.memory, pages, (_LARGE, 0)):
                    place = slice(done.first, done.first + (done.extents << done.order))
                    self.frames[place] = array("Q", extent_words(firsts, done.order))
                    firsts = array("Q", [frame + 1 for frame in firsts])
                    self.numbers[place] = array("Q", extent_words(firsts, done.order))
        if small:
            extents = Extents(self.domain.memory, 0, _AT_ONCE)
            extents.reserve(memory.POPULATE_PHYSMAP, small)
            for pfn, frame in zip(small, extents.done):
                self.frames[pfn] = frame
                self.numbers[pfn] = frame + 1

    def write(self, pages: PageData, read: Read) -> None:
        """Let the contents of allocated pages be read to where they belong, and finish page tables there."""
        frames = self._frames_of(pages.pfns)
        with self.domain.memory.map(frames, writable=True) as mapped, lent(mapped) as view:
            read(view)
            for place in _tables(pages):
                with view[place * PAGE_SIZE : (place + 1) * PAGE_SIZE] as table:
                    self._finish(table, pages.types[place], pages.pfns[place])

    def _frames_of(self, pfns: array[int]) -> array[int]:
        """The machine frames of pages that are there."""
        frames = array("Q", bytes(8 * len(pfns)))
        pick_words(self.frames, pfns, frames)
        if ABSENT in frames:
            self.frame(pfns[frames.index(ABSENT)])
        return frames

    def _finish(self, table: memoryview, kind: int, pfn: int) -> None:
        """Machine frames for the pfns of a page table, which may name pages whose contents come later."""
        swapped = self.domain.xen.swapped
        with memoryview(self.numbers).cast("B") as numbers:
            missing = pv_layout.renumber_table(table, kind, self._width, numbers, swapped)
        if not missing:
            return
        if max(missing) >= len(self.numbers):
            text = f"the page table at pfn {pfn:#x} names pfn {max(missing):#x}"
            raise errors.DecodeError(f"{text}: no such page")
        self._allocate(array("Q", missing))
        with memoryview(self.numbers).cast("B") as numbers:
            if pv_layout.renumber_table(table, kind, self._width, numbers, swapped):
                raise errors.DecodeError(f"the page table at pfn {pfn:#x} has a large page")

    def frame(self, pfn: int) -> int:
        """The machine frame of a page. DecodeError if it has none."""
        frame = self.frames[pfn] if pfn < len(self.frames) else ABSENT
        if frame == ABSENT:
            raise errors.DecodeError(f"the guest has no page at pfn {pfn:#x}")
        return frame

    def own(self, pfn: int) -> int:
        """The same for any other page."""
        found = self.frame(pfn)
        if pv_layout.level(self.types[pfn]):
            raise errors.DecodeError(f"pfn {pfn:#x} is a page table, where the guest would have other data")
        return found

    def check_root(self, pfn: int) -> None:
        """DecodeError for a page that is not a top page table."""
        if pfn >= len(self.types) or pv_layout.level(self.types[pfn]) != self._width.levels:
            raise errors.DecodeError(f"a vcpu uses pfn {pfn:#x} as its page table, which it is not")

    def pin(self) -> None:
        """Let Xen check and keep the page tables that were pinned."""
        layout = mmuext.MMUEXT_STRUCT.at(self.domain.xen.interface)
        pinned = list(compress(range(len(self.types)), self.types.translate(_PINNED)))
        for start in range(0, len(pinned), _AT_ONCE):
            part = [(pv_layout.level(self.types[pfn]), pfn) for pfn in pinned[start : start + _AT_ONCE]]
            ops = [layout.pack({"cmd": level - 1, "arg1": self.frame(pfn)}) for level, pfn in part]
            self.domain.change(_PINS[part[0][0]], ops=b"".join(ops), count=len(ops))

    def write_p2m(self) -> None:
        """Write the guest's own list of its frames, where it has it."""
        per_page = PAGE_SIZE // self._width.entry_bytes
        for start in range(0, len(self._p2m_frames), _AT_ONCE):
            part = self._p2m_frames[start : start + _AT_ONCE]
            frames = array("Q", map(self.own, part))
            with self.domain.memory.map(frames, writable=True) as mapped, memoryview(mapped) as view:
                for place in range(len(part)):
                    first = (start + place) * per_page
                    view[place * PAGE_SIZE : (place + 1) * PAGE_SIZE] = self._entries(first, per_page)

    def _entries(self, first: int, count: int) -> bytes:
        entries = self.frames[first : first + count]
        entries.extend(array("Q", [ABSENT]) * (count - len(entries)))
        if self._width.entry_bytes != 8:
            entries = array("I", [frame & 2**32 - 1 for frame in entries])
        if self.domain.xen.swapped:
            entries.byteswap()
        return entries.tobytes()


def _tables(pages: PageData) -> Iterator[int]:
    """The places of page tables. Of a page that comes twice only the last is what it has in the end."""
    places = list(pv_layout.tables(pages.types))
    if places:
        last = dict(zip(pages.pfns, count()))
        yield from (place for place in places if last[pages.pfns[place]] == place)
