# SPDX-License-Identifier: MIT
"""The memory of a PV guest that is restored: allocated as the stream names its pages, and written."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.abi import memory, mmuext
from pyxc.abi.page import PAGE_KB
from pyxc.domain import bounds
from pyxc.domain.domain import Domain
from pyxc.domain.extents import Extents
from pyxc.guest import guest_memory, pv_layout
from pyxc.guest.placing import consecutive, runs
from pyxc.guest.pv_layout import WIDTHS
from pyxc.guest.restore_pages import NOT_GIVEN
from pyxc.guest.stream.records import PageData, Pages, PvP2mFrames

_LARGE = 9
_AT_ONCE = 1 << 10
_PINNED = 8
_PINS = {1: mmuext.PIN_L1_TABLE, 2: mmuext.PIN_L2_TABLE, 3: mmuext.PIN_L3_TABLE, 4: mmuext.PIN_L4_TABLE}


class PvMemory:
    """The pages of one PV guest, numbered by pfns. Threads: one at a time.

    `numbers` has for each pfn its machine frame + 1, or 0 for none.
    """

    def __init__(self, domain: Domain, bits: int, memory_kb: int) -> None:
        self.domain = domain
        self.numbers = array("Q")
        self.types = bytearray()
        self._width = WIDTHS[bits]
        self._most = bounds.frame_numbers(domain.info()._replace(tot_pages=memory_kb // PAGE_KB))
        self._p2m_frames = array("Q")

    def extend(self, event: PvP2mFrames) -> None:
        """Note the pages of its p2m. DecodeError if these are more than a guest of its size has."""
        if event.end_pfn >= self._most:
            raise errors.DecodeError(f"the guest has pfns up to {event.end_pfn:#x}, too many for its memory")
        more = event.end_pfn + 1 - len(self.numbers)
        self.numbers.extend(array("Q", bytes(8 * max(0, more))))
        self.types.extend(bytes(max(0, more)))
        first = event.start_pfn * self._width.entry_bytes // PAGE_SIZE
        if first > len(self._p2m_frames):
            raise errors.DecodeError(f"the place of the p2m below pfn {event.start_pfn:#x} is unknown")
        self._p2m_frames[first : first + len(event.frames)] = event.frames

    def give(self, listed: PageData) -> None:
        """Allocate the pages that it does not have yet. HypercallError ENOMEM: this is more than the domain
        may own, or than the host has."""
        for pfn, kind in zip(listed.pfns, listed.types):
            self.types[pfn] = kind
        self._allocate(pfn for pfn, kind in zip(listed.pfns, listed.types) if kind not in NOT_GIVEN)

    def _allocate(self, pfns: Iterable[int]) -> None:
        """In large extents where all pages of one are named."""
        numbers, small = self.numbers, array("Q")
        for part in consecutive(array("Q", [pfn for pfn in dict.fromkeys(pfns) if not numbers[pfn]])):
            for run in runs(part, (_LARGE, 0)):
                pages = range(run.first, run.first + (run.extents << run.order))
                if not run.order:
                    small.extend(pages)
                    continue
                for done, frame in guest_memory.populate(self.domain.memory, pages, (_LARGE, 0)):
                    count = done.extents << done.order
                    numbers[done.first : done.first + count] = array("Q", range(frame + 1, frame + 1 + count))
        if small:
            given = Extents(self.domain.memory, 0, _AT_ONCE)
            given.reserve(memory.POPULATE_PHYSMAP, small)
            for pfn, frame in zip(small, given.done):
                numbers[pfn] = frame + 1

    def write(self, pages: Pages) -> None:
        """Write the contents of allocated pages."""
        if not pages.pfns:
            return
        data = pages.data
        if any(map(pv_layout.level, set(pages.types))):
            data = memoryview(bytearray(data))
            for place, kind in enumerate(pages.types):
                if pv_layout.level(kind):
                    self._finish(data[place * PAGE_SIZE : (place + 1) * PAGE_SIZE], kind, pages.pfns[place])
        frames = array("Q", map(self.frame, pages.pfns))
        with self.domain.memory.map(frames, writable=True) as mapped, memoryview(mapped) as view:
            view[:] = data

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
        self._allocate(missing)
        with memoryview(self.numbers).cast("B") as numbers:
            if pv_layout.renumber_table(table, kind, self._width, numbers, swapped):
                raise errors.DecodeError(f"the page table at pfn {pfn:#x} has a large page")

    def frame(self, pfn: int) -> int:
        """The machine frame of a page. DecodeError if it has none."""
        number = self.numbers[pfn] if pfn < len(self.numbers) else 0
        if not number:
            raise errors.DecodeError(f"the guest has no page at pfn {pfn:#x}")
        return number - 1

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
        pinned = [
            (pv_layout.level(kind), pfn)
            for pfn, kind in enumerate(self.types)
            if kind & _PINNED and pv_layout.level(kind)
        ]
        for start in range(0, len(pinned), _AT_ONCE):
            part = pinned[start : start + _AT_ONCE]
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
        most = (1 << 8 * self._width.entry_bytes) - 1
        code = "Q" if self._width.entry_bytes == 8 else "I"
        entries = array(code, [number - 1 & most for number in self.numbers[first : first + count]])
        entries.extend(array(code, [most]) * (count - len(entries)))
        if self.domain.xen.swapped:
            entries.byteswap()
        return entries.tobytes()
