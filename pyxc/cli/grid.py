# SPDX-License-Identifier: MIT
"""An address space as cells in rows, without its longest gaps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

COLUMNS = 64
_GAP_LEAST = 1 << 12
"""Frames of a gap that is left out, at least."""
_GAP_SHARE = 16
"""The same, as a part of all other frames."""
_PARTS_MOST = 16


class Grid(NamedTuple):
    """Parts of an address space, each divided into cells of so many frames, which is a power of two."""

    parts: list[range]
    per_cell: int

    @classmethod
    def of(cls, used: Iterable[tuple[int, int]], cells: int) -> Grid:
        """A grid of about so many cells for the used frames: first and count of each run, in order."""
        spans = [range(first, first + count) for first, count in used]
        gap = max(_GAP_LEAST, sum(map(len, spans)) // _GAP_SHARE)
        while len(spans := _bridged(spans, gap)) > _PARTS_MOST:
            gap *= 2
        per_cell = 1
        while sum(map(len, spans)) > per_cell * cells:
            per_cell *= 2
        return cls(spans, per_cell)

    def cells(self, part: range) -> range:
        """The numbers of the cells of a part."""
        return range(part.start // self.per_cell, -(-part.stop // self.per_cell))

    def rows(self, part: range) -> list[range]:
        """The same, row by row."""
        cells = self.cells(part)
        return [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]


def _bridged(spans: Iterable[range], gap: int) -> list[range]:
    """Spans with shorter gaps than that between them, as one."""
    parts: list[range] = []
    for span in spans:
        if parts and span.start - parts[-1].stop < gap:
            parts[-1] = range(parts[-1].start, span.stop)
        else:
            parts.append(span)
    return parts


class Heat:
    """How often frames were written: in how many of `rounds` rounds each, from frame 0 on."""

    def __init__(self) -> None:
        self.rounds = 0
        self.written = bytearray()

    def add(self, frames: Iterable[int], count: int) -> None:
        """A round in which `frames`, of `count`, were written."""
        self.rounds += 1
        if count > len(self.written):
            self.written.extend(bytes(count - len(self.written)))
        for frame in frames:
            self.written[frame] += 1

    @property
    def nr_written(self) -> int:
        """Frames that were written at all."""
        return len(self.written) - self.written.count(0)

    def grid(self, cells: int) -> Grid:
        return Grid.of(_spans(self.written), cells)

    def share(self, first: int, count: int) -> float:
        """How hot some frames are: 1 if each was written in each round."""
        return sum(self.written[first : first + count]) / (self.rounds * count)


def _spans(written: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and count of frames that were written in succession."""
    start = None
    for frame, times in enumerate(written):
        if times and start is None:
            start = frame
        elif not times and start is not None:
            yield start, frame - start
            start = None
    if start is not None:
        yield start, len(written) - start
