# SPDX-License-Identifier: MIT
"""`core info`, `core extract` and `core convert`: core dumps, without a hypervisor."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pyxc.cli import output, progress
from pyxc.cli.arguments import frame_range
from pyxc.cli.dumps import NO_KERNEL, add_format, described
from pyxc.cli.parser import Program
from pyxc.guest import core_convert, core_pages
from pyxc.guest.core_file import CoreFile, DumpedBy

_RANGES_SHOWN = 16
_COLUMNS = 2
_FIRST = ("rip", "rsp", "cr3", "eip", "esp")


def add(program: Program) -> None:
    program.add_group("core", "inspect and convert core dumps")
    info = program.add("core info", show_info, "show what is in a core dump")
    info.add_argument("file", metavar="FILE", help="a file written by dump-core or xl dump-core")
    info.add_argument("-r", "--registers", action="store_true", help="show all registers of each vcpu")
    extract = program.add("core extract", extract_pages, "copy guest frames of a core dump to a file")
    extract.add_argument("file", metavar="FILE", help="a file written by dump-core or xl dump-core")
    extract.add_argument("frames", metavar="GFN", help="a guest frame, or FIRST-LAST, or FIRST+COUNT")
    extract.add_argument("output", metavar="OUTPUT", help="the file to write")
    extract.add_argument("--force", action="store_true", help="replace OUTPUT whatever it is")

    convert = program.add("core convert", convert_core, "write a core dump for the tools of Linux")
    convert.add_argument("file", metavar="FILE", help="a file written by dump-core or xl dump-core")
    convert.add_argument("output", metavar="OUTPUT", help="the file to write")
    convert.add_argument("--force", action="store_true", help="replace OUTPUT whatever it is")
    add_format(convert)


def show_info(args: argparse.Namespace) -> int:
    with CoreFile(args.file) as core:
        if args.json:
            output.report(args.json, **_as_json(core))
        else:
            output.lines(_lines(core, args.registers))
    return 0


def _lines(core: CoreFile, registers: bool) -> Iterator[str]:
    for key, value in _rows(core):
        yield f"{key:<23}: {'-' if value is None else value}"
    for number, context in enumerate(core.contexts):
        names = list(context) if registers else [name for name in _FIRST if name in context]
        width = max(map(len, names))
        cells = [f"{name:>{width}} {context[name]:0{context.width // 4}x}" for name in names]
        yield ""
        yield f"vcpu {number}"
        yield from ("  ".join(cells[start : start + _COLUMNS]) for start in range(0, len(cells), _COLUMNS))
    ranges = core.ranges()
    yield ""
    yield f"{'First gfn':>16} {'Last gfn':>16} {'Pages':>12}"
    yield from (f"{r.start:>16x} {r.stop - 1:>16x} {len(r):>12}" for r in islice(ranges, _RANGES_SHOWN))
    if more := sum(1 for _ in ranges):
        yield f"and {more} more"


def _rows(core: CoreFile) -> Iterator[tuple[str, object]]:
    xen = core.xen
    yield "kind", "HVM or PVH" if core.is_hvm else f"{core.bits}-bit PV"
    yield "xen", xen and xen.release
    yield "xen_changeset", xen and xen.changeset
    yield "xen_compiler", xen and xen.compiler
    yield "xen_caps", xen and " ".join(xen.capabilities)
    yield "vcpus", len(core.contexts)
    yield "memory_kb", len(core.gfns) * 4
    yield "pages", len(core.gfns)
    yield "missing_pages", core.nr_missing
    yield "ranges", sum(1 for _ in core.ranges())
    yield "size_bytes", core.size_bytes


def _as_json(core: CoreFile) -> dict[str, Any]:
    return {
        "file": core.path,
        "kind": "hvm" if core.is_hvm else "pv",
        "bits": core.bits,
        "xen": None if core.xen is None else _xen_as_json(core.xen),
        "nr_pages": len(core.gfns),
        "nr_missing": core.nr_missing,
        "size_bytes": core.size_bytes,
        "vcpus": [{"vcpu": number, "registers": dict(one)} for number, one in enumerate(core.contexts)],
        "ranges": [{"first_gfn": r.start, "nr_pages": len(r)} for r in core.ranges()],
    }


def _xen_as_json(xen: DumpedBy) -> dict[str, Any]:
    return {**xen._asdict(), "capabilities": list(xen.capabilities)}


def extract_pages(args: argparse.Namespace) -> int:
    first, count = frame_range(args.frames)
    with CoreFile(args.file) as core:
        done = core_pages.extract(
            core,
            first,
            count,
            args.output,
            replace=args.force,
            progress=progress.building(),
            provenance=args.provenance,
        )
    if args.json:
        output.report(args.json, file=args.output, **done._asdict())
    elif done.nr_missing:
        output.lines([f"{done.nr_missing} of {count} pages are not in the dump: they are zeros"])
    return 0


def convert_core(args: argparse.Namespace) -> int:
    text = described(args)
    with CoreFile(args.file) as core:
        made = core_convert.convert(
            core,
            args.output,
            format=args.format,
            vmcoreinfo=text,
            replace=args.force,
            progress=progress.building(),
            provenance=args.provenance,
        )
    if args.json:
        output.report(args.json, file=args.output, **made._asdict())
    elif made.kernel is None:
        output.lines([NO_KERNEL])
    else:
        output.lines([f"Linux {made.kernel}"])
    return 0
