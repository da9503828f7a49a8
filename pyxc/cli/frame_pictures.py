# SPDX-License-Identifier: MIT
"""Pictures of an address space: a cell for some frames, in rows, without its longest gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import pyxc
from pyxc.cli.svg import MARGIN, PALE, SIZE, Picture

_COLUMNS = 64
_CELLS_MOST = 64 * 48
_CELL = 12
_LINE = SIZE + 6
_TOP = 3 * MARGIN
_WIDTH = _COLUMNS * _CELL
_GAP_LEAST = 1 << 12
"""Frames of a gap that is not drawn, at least."""
_GAP_SHARE = 16
"""The same, as a part of all other frames."""
_COLOURS = {
    "l4tab": "#a50f15", "l3tab": "#de2d26", "l2tab": "#fb6a4a", "l1tab": "#fdae6b", "broken": "#000000",
    "paged": "#969696", "xalloc": "#bdbdbd", "foreign": "#9e9ac8", "identity": "#74c476", "memory": "#9ecae1",
    "hole": PALE,
}  # fmt: skip
"""The kinds of frames, those first whose colour a cell with several kinds has."""
_RANKS = {kind: rank for rank, kind in enumerate(_COLOURS)}
_KINDS = list(_COLOURS)
_HEATS = ("#fff7bc", "#fee391", "#fec44f", "#fe9929", "#ec7014", "#cc4c02", "#8c2d04")
"""From cells that are rarely written to those that always are."""


class Grid(NamedTuple):
    """Parts of an address space, each drawn as cells of so many frames, which is a power of two."""

    parts: list[range]
    per_cell: int

    @classmethod
    def of(cls, used: Iterable[tuple[int, int]]) -> Grid:
        """The grid for used frames: first and count of each run, in order."""
        spans = list(used)
        gap = max(_GAP_LEAST, sum(count for _, count in spans) // _GAP_SHARE)
        parts: list[range] = []
        for first, count in spans:
            if parts and first - parts[-1].stop < gap:
                parts[-1] = range(parts[-1].start, first + count)
            else:
                parts.append(range(first, first + count))
        per_cell = 1
        while sum(map(len, parts)) > per_cell * _CELLS_MOST:
            per_cell *= 2
        return cls(parts, per_cell)

    def cells(self, part: range) -> range:
        """The numbers of the cells of a part."""
        return range(part.start // self.per_cell, -(-part.stop // self.per_cell))

    @property
    def height(self) -> int:
        """What draw() needs."""
        return sum(_LINE + -(-len(self.cells(part)) // _COLUMNS) * _CELL + SIZE for part in self.parts)

    def draw(self, picture: Picture, y: int, colour_of: Callable[[int], str]) -> None:
        for part in self.parts:
            size = len(part) * pyxc.PAGE_SIZE >> 10
            text = f"{part.start:#x} to {part.stop - 1:#x}, {size} KiB"
            picture.text(MARGIN, y + SIZE, text, width=_WIDTH)
            y += _LINE
            for place, cell in enumerate(self.cells(part)):
                row, column = divmod(place, _COLUMNS)
                x = MARGIN + column * _CELL
                picture.box(x, y + row * _CELL, _CELL - 1, _CELL - 1, colour_of(cell))
            y += -(-len(self.cells(part)) // _COLUMNS) * _CELL + SIZE


def frames(title: str, runs: Sequence[pyxc.FrameRun]) -> Picture:
    """The kinds of frames. A cell has the colour of the first of its kinds in the legend."""
    used = [run for run in runs if run.kind != "hole"]
    grid = Grid.of((run.first, run.nr_frames) for run in used)
    ranks: dict[int, int] = {}
    for run in used:
        rank = _RANKS[run.kind]
        for cell in grid.cells(range(run.first, run.first + run.nr_frames)):
            ranks[cell] = min(rank, ranks.get(cell, rank))
    present = [kind for kind in _KINDS if kind == "hole" or any(run.kind == kind for run in used)]
    picture = Picture(title, _WIDTH + 2 * MARGIN, _TOP + 2 * _LINE + grid.height)
    _legend(picture, [(kind, _COLOURS[kind]) for kind in present], grid.per_cell)
    hole = _RANKS["hole"]
    grid.draw(picture, _TOP + 2 * _LINE, lambda cell: _COLOURS[_KINDS[ranks.get(cell, hole)]])
    return picture


def heat(title: str, written: Sequence[int], most: int) -> Picture:
    """How often frames were written: `written` has a number of at most `most` for each frame from 0 on."""
    grid = Grid.of(_spans(written))
    picture = Picture(title, _WIDTH + 2 * MARGIN, _TOP + 2 * _LINE + grid.height)
    shades = [("never", PALE), ("rarely", _HEATS[0]), *(("", colour) for colour in _HEATS[1:-1])]
    _legend(picture, [*shades, ("always", _HEATS[-1])], grid.per_cell)

    def colour_of(cell: int) -> str:
        share = sum(written[cell * grid.per_cell : (cell + 1) * grid.per_cell]) / (most * grid.per_cell)
        return _HEATS[min(int(share * len(_HEATS)), len(_HEATS) - 1)] if share else PALE

    grid.draw(picture, _TOP + 2 * _LINE, colour_of)
    return picture


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


def _legend(picture: Picture, entries: Iterable[tuple[str, str]], per_cell: int) -> None:
    x, y = MARGIN, _TOP
    for name, colour in entries:
        picture.box(x, y, _CELL, _CELL, colour)
        picture.text(x + _CELL + 4, y + SIZE - 2, name, width=_WIDTH)
        x += _CELL + (8 + len(name) * 8 if name else 2)
    size = per_cell * pyxc.PAGE_SIZE >> 10
    picture.text(MARGIN, y + _LINE + SIZE, f"A cell is {per_cell} frames, {size} KiB.", width=_WIDTH)
