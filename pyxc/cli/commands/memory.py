# SPDX-License-Identifier: MIT
"""`frames`: which frames a domain owns, or where it believes them to be."""

from __future__ import annotations

import argparse
from itertools import islice

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import number
from pyxc.cli.parser import Program
from pyxc.cli.session import find, opened
from pyxc.cli.status import UsageError

_COUNT = 16


def add(program: Program) -> None:
    parser = program.add("frames", show_frames, "list the frames of memory that a domain owns")
    parser.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    parser.add_argument("--types", action="store_true", help="show what each frame is used for")
    parser.add_argument("--force", action="store_true", help="continue even if this populates memory")
    parser.add_argument(
        "--source", choices=pyxc.FrameList.sources(), help="where to read them from (default: the best)"
    )
    parser.add_argument("--p2m", action="store_true", help="show a PV domain's map from pfns to frames")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--count", type=number, default=_COUNT, metavar="N", help=f"number of lines (default: {_COUNT})"
    )
    amount.add_argument("--all", dest="count", action="store_const", const=None, help="all of them")


def show_frames(args: argparse.Namespace) -> int:
    if args.p2m and (args.types or args.force or args.source):
        raise UsageError("--p2m cannot be used with --types, --force or --source")
    with opened(args) as xen:
        domain = find(xen, args.domain)
        if args.p2m:
            _show_p2m(args, domain, domain.memory.p2m())
        else:
            _show_list(args, domain, domain.memory.frames(args.types, args.force, args.source))
    return 0


def _show_list(args: argparse.Namespace, domain: pyxc.Domain, found: pyxc.FrameList) -> None:
    frames = found.frames[: args.count]
    kinds = None if found.types is None else list(islice(found.kinds(), args.count))
    total = len(found.frames)
    if args.json:
        output.report(
            args.json,
            domid=domain.domid,
            source=found.source,
            translated=found.translated,
            total=total,
            frames=frames.tolist(),
            types=None if kinds is None else [kind.name.lower() for kind, _ in kinds],
            pinned=None if kinds is None else [pinned for _, pinned in kinds],
        )
        return
    unit = "gfns" if found.translated else "mfns"
    output.lines([f"# domain {domain.domid}: {total} {unit} from {found.source or 'nothing'}"])
    output.lines(map(hex, frames) if kinds is None else map(_frame_row, frames, kinds))
    _tell_rest(len(frames), total)


def _frame_row(frame: int, kind: tuple[pyxc.PageType, bool]) -> str:
    use, pinned = kind
    return f"{frame:#x} {use.name.lower()}{' pinned' if pinned else ''}"


def _show_p2m(args: argparse.Namespace, domain: pyxc.Domain, p2m: pyxc.P2m) -> None:
    entries = list(islice(p2m.frames(), args.count))
    total = len(p2m.entries)
    if args.json:
        output.report(
            args.json,
            domid=domain.domid,
            source=p2m.source,
            total=total,
            entries=entries,
            identity_pfns=len(p2m.identity),
            foreign=[{"pfn": pfn, "frame": frame} for pfn, frame in zip(*p2m.foreign)],
        )
        return
    apart = f"{len(p2m.identity)} identity, {len(p2m.foreign.pfns)} foreign"
    output.lines([f"# domain {domain.domid}: {total} pfns from {p2m.source}; {apart}"])
    output.lines(f"{pfn:#x} {'-' if entry is None else hex(entry)}" for pfn, entry in enumerate(entries))
    _tell_rest(len(entries), total)


def _tell_rest(shown: int, total: int) -> None:
    if shown < total:
        output.lines([f"# {total - shown} more; --all shows them"])
