# SPDX-License-Identifier: MIT
"""`dirty`: which memory a guest writes, and how often."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import pyxc
from pyxc.cli import frame_pictures, output, svg
from pyxc.cli.arguments import number, seconds
from pyxc.cli.grid import COLUMNS, Heat
from pyxc.cli.parser import Program
from pyxc.cli.session import find, name_of, opened, shown
from pyxc.cli.status import UsageError

_ROUNDS = 5
_ROUNDS_MOST = 255
_CELLS = COLUMNS * 24
_SHADES = ".:-=+*#%@"
"""From rarely to always; a blank is never."""


def add(program: Program) -> None:
    parser = program.add("dirty", show_dirty, "show which memory a guest writes, and how often")
    parser.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    parser.add_argument(
        "-d",
        "--delay",
        type=seconds,
        default=1.0,
        metavar="SECONDS",
        help="length of a round (default: 1)",
    )
    parser.add_argument(
        "-i",
        "--iterations",
        type=number,
        default=_ROUNDS,
        metavar="N",
        help=f"number of rounds (default: {_ROUNDS})",
    )
    svg.add_options(parser)


def show_dirty(args: argparse.Namespace) -> int:
    if not 0 < args.iterations <= _ROUNDS_MOST:
        raise UsageError(f"--iterations: expected 1 to {_ROUNDS_MOST}")
    heat = Heat()
    rounds: list[dict[str, float]] = []
    with svg.drawing(args) as draw, opened(args) as xen:
        domain = find(xen, args.domain)
        name = shown(name_of(xen, domain.info()))
        if not args.json:
            output.lines([f"{'Round':>5} {'Seconds':>8} {'Pages':>10} {'MiB/s':>8}"])
        with domain.log_dirty as log:
            for taken in _taken(log, heat, args):
                rounds.append(taken)
                if not args.json:
                    output.lines([_row(taken)])
                    output.flush()
        draw(lambda: frame_pictures.heat(f"{name}: memory that is written", heat))
    if args.json:
        total = {"nr_written": heat.nr_written, "nr_rounds": heat.rounds}
        output.report(args.json, domid=domain.domid, **total, rounds=rounds, cells=_cells(heat))
    else:
        output.lines(_map(heat))
    return 0


def _taken(log: pyxc.LogDirty, heat: Heat, args: argparse.Namespace) -> Iterator[dict[str, float]]:
    """What is written in each round."""
    start = time.monotonic()
    for index in range(args.iterations):
        time.sleep(args.delay)
        pages = log.clean()
        now = time.monotonic()
        heat.add(pages.frames(), pages.pages)
        yield {"round": index + 1, "seconds": round(now - start, 3), "dirty_pages": pages.dirty}
        start = now


def _row(taken: dict[str, float]) -> str:
    rate = taken["dirty_pages"] * pyxc.PAGE_SIZE / (1 << 20) / (taken["seconds"] or 1)
    return f"{taken['round']:>5} {taken['seconds']:>8.2f} {taken['dirty_pages']:>10} {rate:>8.1f}"


def _cells(heat: Heat) -> list[dict[str, float]]:
    """The parts of the memory that were written."""
    grid = heat.grid(_CELLS)
    starts = [cell * grid.per_cell for part in grid.parts for cell in grid.cells(part)]
    shares = [(start, heat.share(start, grid.per_cell)) for start in starts]
    return [
        {"first_gfn": start, "nr_frames": grid.per_cell, "share": round(share, 4)}
        for start, share in shares
        if share
    ]


def _map(heat: Heat) -> Iterator[str]:
    grid = heat.grid(_CELLS)
    written = heat.nr_written * pyxc.PAGE_SIZE / (1 << 20)
    yield ""
    yield f"Pages that were written at least once: {heat.nr_written}, {written:.1f} MiB."
    size = grid.per_cell * pyxc.PAGE_SIZE >> 10
    if heat.nr_written:
        yield f"Written from rarely to always: {_SHADES}; a character is {size} KiB."
    for part in grid.parts:
        for cells in grid.rows(part):
            shares = (heat.share(cell * grid.per_cell, grid.per_cell) for cell in cells)
            yield f"{cells.start * grid.per_cell:>12x} |{''.join(map(_shade, shares))}|"
        yield ""


def _shade(share: float) -> str:
    return _SHADES[min(int(share * len(_SHADES)), len(_SHADES) - 1)] if share else " "
