# SPDX-License-Identifier: MIT
"""Machine memory of the simulated host: frames, who owns them, of which type they are, and the M2P."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Literal

from pyxc._core import PAGE_SIZE, SharedMemory
from pyxc.abi.domid import DOMID_XEN
from pyxc.sim.words import Words

INVALID_ENTRY = 2**64 - 1
WORDS_PER_PAGE = PAGE_SIZE // 8
_HYPERVISOR_FRAMES = 1024
"""Frames below this are Xen's own image and tables; the M2P follows."""


class Heap:
    """Free frames as runs, from which aligned blocks are taken lowest first."""

    def __init__(self, start: int, stop: int) -> None:
        self._runs = [(start, stop)]
        self.free = stop - start

    def take(self, order: int) -> int | None:
        """The first frame of 2**order aligned ones, None when there is no such block."""
        size = 1 << order
        for index, (start, stop) in enumerate(self._runs):
            block = -(-start // size) * size
            if block + size <= stop:
                rest = [(start, block), (block + size, stop)]
                self._runs[index : index + 1] = [run for run in rest if run[0] < run[1]]
                self.free -= size
                return block
        return None

    def take_run(self, count: int) -> int | None:
        """The first of `count` consecutive frames, None when no run is so long."""
        for index, (start, stop) in enumerate(self._runs):
            if stop - start >= count:
                self._runs[index : index + 1] = [(start + count, stop)] if stop - start > count else []
                self.free -= count
                return start
        return None

    def give(self, start: int, stop: int) -> None:
        """Take a run of frames back."""
        place = bisect_left(self._runs, (start, stop))
        before, after = self._runs[max(0, place - 1) : place], self._runs[place : place + 1]
        self.free += stop - start
        first = place
        if before and before[0][1] == start:
            first, start = place - 1, before[0][0]
        last = place
        if after and after[0][0] == stop:
            last, stop = place + 1, after[0][1]
        self._runs[first:last] = [(start, stop)]


def runs_of(frames: Iterable[int]) -> list[tuple[int, int]]:
    """Frames as runs of consecutive ones, (first, after the last)."""
    runs: list[tuple[int, int]] = []
    for frame in sorted(frames):
        if runs and runs[-1][1] == frame:
            runs[-1] = (runs[-1][0], frame + 1)
        else:
            runs.append((frame, frame + 1))
    return runs


class Machine:
    """All frames of the host.

    `special` are frames of Xen's own heap that it shares with their owner and does not count as the owner's
    memory; `types` has the frames that are page tables (bits as in getpageframeinfo3); `words` are u64 in the
    machine's byte order.
    """

    def __init__(self, frames: int, byteorder: Literal["little", "big"]) -> None:
        self.frames = frames
        self.words = Words(byteorder)
        self.memory = SharedMemory(frames)
        self.special: set[int] = set()
        self.types: dict[int, int] = {}
        self.m2p_frames = range(_HYPERVISOR_FRAMES, _HYPERVISOR_FRAMES + -(-frames // WORDS_PER_PAGE))
        self.heap = Heap(self.m2p_frames.stop, frames)
        self._owned = {DOMID_XEN: set(self.m2p_frames)}
        self.write_pages(self.m2p_frames, b"\xff" * (len(self.m2p_frames) * PAGE_SIZE))

    def valid(self, mfn: int) -> bool:
        return 0 <= mfn < self.frames

    def owned_by(self, mfn: int, domid: int) -> bool:
        return mfn in self._owned.get(domid, ())

    def frames_of(self, domid: int) -> list[int]:
        """Every frame of a domain in order, special ones too."""
        return sorted(self._owned.get(domid, ()))

    def allocate(self, domid: int, order: int = 0) -> int | None:
        """2**order aligned frames for a domain; None when there is no such block."""
        first = self.heap.take(order)
        if first is not None:
            self._claim(range(first, first + (1 << order)), domid)
        return first

    def allocate_run(self, domid: int, count: int) -> range:
        """Consecutive frames for a domain. MemoryError when there are not so many."""
        first = self.heap.take_run(count)
        if first is None:
            raise MemoryError(f"the simulated host has no {count} consecutive free frames")
        frames = range(first, first + count)
        self._claim(frames, domid)
        return frames

    def allocate_special(self, domid: int) -> int | None:
        """A frame of Xen's heap, shared with a domain (shared_info, grant tables)."""
        frame = self.allocate(domid)
        if frame is not None:
            self.special.add(frame)
        return frame

    def _claim(self, frames: range, domid: int) -> None:
        self._owned.setdefault(domid, set()).update(frames)

    def release(self, domid: int, frames: Iterable[int]) -> None:
        """Give frames of a domain back to the heap: without type and contents."""
        for start, stop in runs_of(frames):
            run = range(start, stop)
            self._owned[domid].difference_update(run)
            self.special.difference_update(run)
            for mfn in self.types.keys() & run:
                del self.types[mfn]
            self.memory.discard(start, len(run))
            self.set_m2p_run(start, array("Q", [INVALID_ENTRY]) * len(run))
            self.heap.give(start, stop)

    def set_m2p_run(self, first_mfn: int, pfns: Sequence[int]) -> None:
        """The pfns of consecutive frames."""
        at = 0
        while at < len(pfns):
            page, index = divmod(first_mfn + at, WORDS_PER_PAGE)
            part = pfns[at : at + WORDS_PER_PAGE - index]
            self.memory.write(self.m2p_frames[page], index * 8, self.words.pack(part))
            at += len(part)

    def write_pages(self, frames: Iterable[int], data: bytes) -> None:
        """Bytes into frames, one after the other; the rest of the last one stays as it is."""
        for index, frame in enumerate(frames):
            part = data[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
            if part:
                self.memory.write(frame, 0, part)

    def word(self, mfn: int, index: int) -> int:
        """The u64 at a place in a frame."""
        return self.words.unpack(self.memory.read(mfn, index * 8, 8))[0]
