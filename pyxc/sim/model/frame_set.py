# SPDX-License-Identifier: MIT
"""Sets of machine frames, kept as runs of consecutive ones: gigabytes cost no more than pages."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class FrameSet:
    """Frames in order. `runs` are what it consists of: not empty, apart from each other, ascending."""

    def __init__(self, *runs: range) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._count = 0
        for run in runs:
            self.add(run)

    @property
    def runs(self) -> list[range]:
        return [range(start, stop) for start, stop in zip(self._starts, self._stops)]

    def __len__(self) -> int:
        return self._count

    def __contains__(self, frame: int) -> bool:
        place = bisect_right(self._starts, frame) - 1
        return place >= 0 and frame < self._stops[place]

    def __iter__(self) -> Iterator[int]:
        for run in self.runs:
            yield from run

    def stop_of(self, frame: int) -> int:
        """The end of the run that a frame is in; the frame itself when it is in none."""
        place = bisect_right(self._starts, frame) - 1
        return max(frame, self._stops[place]) if place >= 0 else frame

    def meets(self, run: range) -> bool:
        """Whether any of some consecutive frames is in it."""
        place = bisect_right(self._stops, run.start)
        return bool(run) and place < len(self._starts) and self._starts[place] < run.stop

    def covers(self, run: range) -> bool:
        """Whether all of some consecutive frames are in it."""
        place = bisect_right(self._starts, run.start) - 1
        return not run or (place >= 0 and run.stop <= self._stops[place])

    def add(self, run: range) -> None:
        """Put consecutive frames in, whether some are there already or not."""
        self._replace(run, outside=0)

    def remove(self, run: range) -> None:
        """Take consecutive frames out, as far as they are there."""
        self._replace(run, outside=1)

    def _replace(self, run: range, outside: int) -> None:
        """Replace the runs that a new one meets: by their union with it, or by what lies outside of it."""
        if not run:
            return
        start, stop = run.start, run.stop
        first = bisect_left(self._stops, start + outside)
        last = bisect_right(self._starts, stop - outside)
        met = list(zip(self._starts[first:last], self._stops[first:last]))
        lowest = min([start, *(before for before, _ in met)])
        highest = max([stop, *(after for _, after in met)])
        kept = [(lowest, start), (stop, highest)] if outside else [(lowest, highest)]
        kept = [(low, high) for low, high in kept if low < high]
        self._count += sum(high - low for low, high in kept) - sum(high - low for low, high in met)
        self._starts[first:last] = [low for low, _ in kept]
        self._stops[first:last] = [high for _, high in kept]


class Heap(FrameSet):
    """Free frames, from which blocks are taken lowest first."""

    @property
    def free(self) -> int:
        return len(self)

    def take(self, order: int) -> int | None:
        """The first frame of 2**order aligned ones, None if there is no such block."""
        size = 1 << order
        for start, stop in zip(self._starts, self._stops):
            block = -(-start // size) * size
            if block + size <= stop:
                self.remove(range(block, block + size))
                return block
        return None

    def take_run(self, count: int) -> int | None:
        """The first of `count` consecutive frames, None when no run is so long."""
        for start, stop in zip(self._starts, self._stops):
            if stop - start >= count:
                self.remove(range(start, start + count))
                return start
        return None
