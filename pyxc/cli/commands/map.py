# SPDX-License-Identifier: MIT
"""`map`: what a guest's address space consists of, and what is in its frames."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator

import pyxc
from pyxc.cli import frame_pictures, hexdump, output, progress, svg
from pyxc.cli.arguments import frame_range, number
from pyxc.cli.parser import Program
from pyxc.cli.session import Attempt, find, name_of, opened, shown
from pyxc.cli.status import UsageError

_COUNT = 32
_DUMPED_MOST = 1024
"""Frames that one dump shows."""


def add(program: Program) -> None:
    parser = program.add("map", show_map, "show memory, page tables and holes of a guest, by frame")
    parser.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    parser.add_argument("--populate", action="store_true", help="continue even if this populates memory")
    parser.add_argument(
        "--dump", metavar="GFN", help="show the bytes of a frame, of FIRST-LAST, or of FIRST+COUNT"
    )
    svg.add_options(parser)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--count", type=number, default=_COUNT, metavar="N", help=f"number of lines (default: {_COUNT})"
    )
    amount.add_argument("--all", dest="count", action="store_const", const=None, help="all of them")


def show_map(args: argparse.Namespace) -> int:
    if args.dump and args.svg:
        raise UsageError("--dump cannot be used with --svg")
    with svg.drawing(args) as draw, opened(args) as xen:
        domain = find(xen, args.domain)
        if args.dump:
            return _dump(args, domain)
        runs: Iterable[pyxc.FrameRun] = domain.memory.runs(args.populate, progress.building())
        if args.svg:
            drawn = list(runs)
            title = f"{shown(name_of(xen, domain.info()))}: memory by frame"
            draw(lambda: frame_pictures.frames(title, drawn))
            runs = drawn
        _show_runs(args, domain, runs)
    return 0


def _show_runs(args: argparse.Namespace, domain: pyxc.Domain, runs: Iterable[pyxc.FrameRun]) -> None:
    total = _Total(args.count)
    some = total.counted(runs)
    if args.json:
        listed = [_json(run) for run in some]
        output.report(args.json, domid=domain.domid, **total.as_json(), runs=listed)
    else:
        output.lines(_table(domain, some, total))


class _Total:
    """Adds up all runs, of which the first `most` are shown."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self.frames = Counter[str]()
        self.nr_pinned = self.nr_2m = self.nr_runs = 0

    def counted(self, runs: Iterable[pyxc.FrameRun]) -> Iterator[pyxc.FrameRun]:
        """Those to show, while all are counted."""
        for run in runs:
            self.nr_runs += 1
            self.frames[run.kind] += run.nr_frames
            self.nr_pinned += run.nr_frames if run.pinned else 0
            self.nr_2m += run.nr_2m
            if self._most is None or self.nr_runs <= self._most:
                yield run

    @property
    def nr_hidden(self) -> int:
        return 0 if self._most is None else max(0, self.nr_runs - self._most)

    def as_json(self) -> dict[str, object]:
        counts = {"nr_runs": self.nr_runs, "total_2m": self.nr_2m, "total_pinned": self.nr_pinned}
        return {**counts, "kinds": dict(self.frames)}


def _json(run: pyxc.FrameRun) -> dict[str, object]:
    fields = run._asdict()
    return {"first_gfn": fields.pop("first"), **fields}


def _table(domain: pyxc.Domain, runs: Iterable[pyxc.FrameRun], total: _Total) -> Iterator[str]:
    yield f"{'First gfn':>16} {'Last gfn':>16} {'Frames':>12} {'2 MiB':>8}  Kind"
    for run in runs:
        kind = f"{run.kind}, pinned" if run.pinned else run.kind
        last = run.first + run.nr_frames - 1
        yield f"{run.first:>16x} {last:>16x} {run.nr_frames:>12} {run.nr_2m or '-':>8}  {kind}"
    if total.nr_hidden:
        yield f"# {total.nr_hidden} more; --all shows them"
    yield ""
    yield f"{'Kind':<10} {'Frames':>12} {'MiB':>10}"
    for kind, count in total.frames.items():
        yield f"{kind:<10} {count:>12} {count * pyxc.PAGE_SIZE / (1 << 20):>10.1f}"
    is_hvm = domain.info().is_hvm
    could = "can be mapped by superpages" if is_hvm else "are contiguous machine memory"
    yield f"Aligned ranges of 2 MiB that {could}: {total.nr_2m}; pinned page tables: {total.nr_pinned}."


def _dump(args: argparse.Namespace, domain: pyxc.Domain) -> int:
    first, count = frame_range(args.dump)
    if count > _DUMPED_MOST:
        raise UsageError(f"GFN: at most {_DUMPED_MOST} frames are shown; dump-core writes them to a file")
    with domain.memory.physical as space:

        def show(frame: int) -> dict[str, object]:
            address = frame * pyxc.PAGE_SIZE
            data = space.read(address, pyxc.PAGE_SIZE)
            if args.json:
                return {"gfn": frame, "data": data.hex()}
            output.lines(hexdump.lines(address, data))
            return {}

        frames = Attempt(range(first, first + count), show)
    if args.json:
        output.report(args.json, domid=domain.domid, frames=frames.results, failed=frames.failures)
    return frames.status
