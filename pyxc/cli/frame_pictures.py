# SPDX-License-Identifier: MIT
"""Pictures of an address space: a cell for some frames, in rows, without its longest gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pyxc
from pyxc.cli.grid import COLUMNS, Grid, Heat
from pyxc.cli.svg import MARGIN, PALE, SIZE, Picture

_CELLS_MOST = COLUMNS * 48
_CELL = 12
_LINE = SIZE + 6
_TOP = 3 * MARGIN
_WIDTH = COLUMNS * _CELL
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


def frames(title: str, runs: Sequence[pyxc.FrameRun]) -> Picture:
    """The kinds of frames. A cell has the colour of the first of its kinds in the legend."""
    used = [run for run in runs if run.kind != "hole"]
    grid = Grid.of(((run.first, run.nr_frames) for run in used), _CELLS_MOST)
    ranks: dict[int, int] = {}
    for run in used:
        rank = _RANKS[run.kind]
        for cell in grid.cells(range(run.first, run.first + run.nr_frames)):
            ranks[cell] = min(rank, ranks.get(cell, rank))
    present = [kind for kind in _KINDS if kind == "hole" or any(run.kind == kind for run in used)]
    picture = Picture(title, _WIDTH + 2 * MARGIN, _TOP + 2 * _LINE + _height(grid))
    _legend(picture, [(kind, _COLOURS[kind]) for kind in present], grid.per_cell)
    hole = _RANKS["hole"]
    _draw(picture, grid, _TOP + 2 * _LINE, lambda cell: _COLOURS[_KINDS[ranks.get(cell, hole)]])
    return picture


def heat(title: str, heat: Heat) -> Picture:
    """How often frames were written."""
    grid = heat.grid(_CELLS_MOST)
    picture = Picture(title, _WIDTH + 2 * MARGIN, _TOP + 2 * _LINE + _height(grid))
    shades = [("never", PALE), ("rarely", _HEATS[0]), *(("", colour) for colour in _HEATS[1:-1])]
    _legend(picture, [*shades, ("always", _HEATS[-1])], grid.per_cell)

    def colour_of(cell: int) -> str:
        share = heat.share(cell * grid.per_cell, grid.per_cell)
        return _HEATS[min(int(share * len(_HEATS)), len(_HEATS) - 1)] if share else PALE

    _draw(picture, grid, _TOP + 2 * _LINE, colour_of)
    return picture


def _height(grid: Grid) -> int:
    """What _draw() needs."""
    return sum(_LINE + len(grid.rows(part)) * _CELL + SIZE for part in grid.parts)


def _draw(picture: Picture, grid: Grid, y: int, colour_of: Callable[[int], str]) -> None:
    for part in grid.parts:
        size = len(part) * pyxc.PAGE_SIZE >> 10
        picture.text(MARGIN, y + SIZE, f"{part.start:#x} to {part.stop - 1:#x}, {size} KiB", width=_WIDTH)
        y += _LINE
        for cells in grid.rows(part):
            for column, cell in enumerate(cells):
                picture.box(MARGIN + column * _CELL, y, _CELL - 1, _CELL - 1, colour_of(cell))
            y += _CELL
        y += SIZE


def _legend(picture: Picture, entries: Iterable[tuple[str, str]], per_cell: int) -> None:
    x, y = MARGIN, _TOP
    for name, colour in entries:
        picture.box(x, y, _CELL, _CELL, colour)
        picture.text(x + _CELL + 4, y + SIZE - 2, name, width=_WIDTH)
        x += _CELL + (8 + len(name) * 8 if name else 2)
    size = per_cell * pyxc.PAGE_SIZE >> 10
    picture.text(
        MARGIN,
        y + _LINE + SIZE,
        f"A cell is {per_cell} frame{'s' * (per_cell > 1)}, {size} KiB.",
        width=_WIDTH,
    )
