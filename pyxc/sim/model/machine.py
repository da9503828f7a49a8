# SPDX-License-Identifier: MIT
"""Machine memory of the simulated host: its frames with their owners and types, and the M2P."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal

from pyxc._core import PAGE_SIZE, SharedMemory
from pyxc.abi.domid import DOMID_XEN
from pyxc.sim.model.frame_set import FrameSet, Heap
from pyxc.sim.model.words import Words

INVALID_ENTRY = 2**64 - 1
MACHINE_FRAMES = 1 << 28
"""What the processor can address, memory or devices (40 bits)."""
GUEST_FRAMES = 1 << 36
"""What page tables of four levels can address for a guest (48 bits)."""
WORDS_PER_PAGE = PAGE_SIZE // 8
_HYPERVISOR_FRAMES = 1024
"""Frames below this are Xen's own image and tables; the M2P follows."""
_CLEARED_AT_ONCE = 1 << 16


def _within(run: range, marked: Collection[int]) -> list[int]:
    """Those of some frames that are in a run, looked for from the shorter side."""
    some, others = (run, marked) if len(run) < len(marked) else (marked, run)
    return [mfn for mfn in some if mfn in others]


def _runs(frames: Iterable[int]) -> Iterator[range]:
    """The same, consecutive ones together."""
    run = range(0)
    for frame in frames:
        if frame == run.stop and run:
            run = range(run.start, frame + 1)
            continue
        if run:
            yield run
        run = range(frame, frame + 1)
    if run:
        yield run


class Machine:
    """All frames of the host.

    `special` are frames of Xen's own heap that it shares with their owner and does not count as the owner's
    memory; `types` has the frames that are page tables (bits as in getpageframeinfo3); `words` are u64 in the
    machine's byte order. `m2p` says whether it has an M2P.
    """

    def __init__(self, frames: int, byteorder: Literal["little", "big"], m2p: bool = True) -> None:
        self.frames = frames
        self.words = Words(byteorder)
        self.memory = SharedMemory(frames)
        self.special: set[int] = set()
        self.types: dict[int, int] = {}
        m2p_pages = -(-frames // WORDS_PER_PAGE) if m2p else 0
        self.m2p_frames = range(_HYPERVISOR_FRAMES, _HYPERVISOR_FRAMES + m2p_pages)
        self.heap = Heap(range(self.m2p_frames.stop, frames))
        self._owned = {DOMID_XEN: FrameSet(self.m2p_frames)}
        self.write_pages(self.m2p_frames, b"\xff" * (len(self.m2p_frames) * PAGE_SIZE))

    def valid(self, mfn: int) -> bool:
        return 0 <= mfn < self.frames

    def owned_by(self, mfn: int, domid: int) -> bool:
        return mfn in self._owned.get(domid, ())

    def frames_of(self, domid: int) -> FrameSet:
        """Every frame of a domain, special ones too."""
        return self._owned.get(domid) or FrameSet()

    def owners(self) -> list[int]:
        """The ids of those that have, or had, any frames."""
        return list(self._owned)

    def memory_of(self, domid: int) -> FrameSet:
        """The frames of a domain that are its memory."""
        memory = FrameSet(*self.frames_of(domid).runs)
        for mfn in self.special:
            memory.remove(range(mfn, mfn + 1))
        return memory

    def memory_from(self, domid: int, run: range) -> range:
        """Of consecutive frames those up to the first that is not a domain's memory."""
        stop = min(run.stop, self.frames_of(domid).stop_of(run.start))
        return range(run.start, min([stop, *(mfn for mfn in self.special if mfn in range(run.start, stop))]))

    def list_of(self, domid: int, first: int, count: int) -> Iterator[bytearray]:
        """Some entries of the same list as the machine writes it, in pieces, none of which is kept."""
        stop = first + count
        for run in self.memory_of(domid).runs:
            yield from self.words.blocks(run[max(0, first) : max(0, stop)])
            first, stop = first - len(run), stop - len(run)

    def allocate(self, domid: int, order: int = 0) -> int | None:
        """2**order aligned frames for a domain; None if there is no such block."""
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
        self._owned.setdefault(domid, FrameSet()).add(frames)

    def release(self, domid: int, frames: FrameSet) -> None:
        """Give frames of a domain back to the heap: without type and contents."""
        for run in frames.runs:
            self._owned[domid].remove(run)
            self.special.difference_update(_within(run, self.special))
            for mfn in _within(run, self.types):
                del self.types[mfn]
            self.memory.discard(run.start, len(run))
            self._clear_m2p(run)
            self.heap.add(run)

    def _clear_m2p(self, run: range) -> None:
        """The pfns of consecutive frames are unknown."""
        for start in range(0, len(run), _CLEARED_AT_ONCE):
            piece = run[start : start + _CLEARED_AT_ONCE]
            self.set_m2p_run(piece.start, array("Q", [INVALID_ENTRY]) * len(piece))

    def set_m2p_run(self, first_mfn: int, pfns: Sequence[int]) -> None:
        """The pfns of consecutive frames, on a machine that has an M2P."""
        if self.m2p_frames:
            words = self.words.pack_run(pfns) if isinstance(pfns, range) else self.words.pack(pfns)
            self.write_m2p(first_mfn, words)

    def write_m2p(self, first_mfn: int, pfns: bytes) -> None:
        """The same of pfns as the machine has them in memory."""
        if self.m2p_frames:
            self.memory.write(self.m2p_frames.start, first_mfn * 8, pfns)

    def pfn_of(self, mfn: int) -> int:
        """What the M2P says of a frame."""
        return self.word(self.m2p_frames[mfn // WORDS_PER_PAGE], mfn % WORDS_PER_PAGE)

    def write_pages(self, frames: Iterable[int], data: bytes) -> None:
        """Write bytes into consecutive frames; the rest of the last one does not change."""
        written, parts = 0, memoryview(data)
        for run in _runs(frames):
            part = parts[written : written + len(run) * PAGE_SIZE]
            if part:
                self.memory.write(run.start, 0, part)
            written += len(part)

    def word(self, mfn: int, index: int) -> int:
        """The u64 at a place in a frame."""
        return self.words.unpack(self.memory.read(mfn, index * 8, 8))[0]
