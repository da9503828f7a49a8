# SPDX-License-Identifier: MIT
"""`top`: how busy domains are, in xentop's columns: on a screen, or as tables for programs."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pyxc
from pyxc.cli import full_screen, output, rows
from pyxc.cli.arguments import number, seconds
from pyxc.cli.parser import Program
from pyxc.cli.screen import View
from pyxc.cli.session import limit_kb, name_of, opened

_DELAY_S = 3.0


def add(program: Program) -> None:
    top = program.add("top", show, "show how busy domains are, as xentop does")
    top.add_argument(
        "-b", "--batch", action="store_true", help="print tables; so does top without a terminal"
    )
    top.add_argument(
        "-i",
        "--iterations",
        type=number,
        metavar="N",
        help="number of tables or screens (default: endless; 1 with --json)",
    )
    top.add_argument("-d", "--delay", type=seconds, default=_DELAY_S, metavar="SECONDS", help="default: 3")
    top.add_argument("-f", "--full-name", action="store_true", help="do not shorten names")
    top.add_argument("-n", "--networks", action="store_true", help="show each network interface (key N)")
    top.add_argument("-x", "--vbds", action="store_true", help="show each disk (key B)")
    top.add_argument("-v", "--vcpus", action="store_true", help="show each vcpu (key V)")
    top.add_argument(
        "-r", "--repeat-header", action="store_true", help="repeat the header before each domain (key R)"
    )


def show(args: argparse.Namespace) -> int:
    count = 1 if args.json == "json" and args.iterations is None else args.iterations
    screen = not (args.batch or args.json) and sys.stdin.isatty() and sys.stdout.isatty()
    view = _view(args)
    with opened(args) as xen:
        if screen and full_screen.run(xen, view, count, output.coloured(args.color)):
            return 0
        total_kb = xen.physinfo().total_memory_kb
        found = itertools.islice(_usages(xen, args.delay), count)
        if args.json == "json":
            samples = [[_json(xen, used) for used in usage] for usage in found]
            output.report(args.json, delay_s=args.delay, samples=samples)
            return 0
        for index, usage in enumerate(found):
            if args.json:
                _stream(args, [_json(xen, used) for used in usage], header=index == 0)
                continue
            output.lines(_table(xen, usage, total_kb, view))
            output.flush()
    return 0


def _usages(xen: pyxc.Xen, delay: float) -> Iterator[list[pyxc.DomainUsage]]:
    before = xen.sample()
    while True:
        time.sleep(delay)
        now = xen.sample()
        yield now.since(before)
        before = now


def _view(args: argparse.Namespace) -> View:
    return View(
        args.delay,
        networks=args.networks,
        disks=args.vbds,
        vcpus=args.vcpus,
        repeat=args.repeat_header,
        full_names=args.full_name,
    )


def _stream(args: argparse.Namespace, domains: list[dict[str, Any]], header: bool) -> None:
    """A line for each sample in JSON Lines, one for each domain of it in CSV."""
    time_s = round(time.time(), 3)
    if args.json == "jsonl":
        output.json_line(time_s=time_s, delay_s=args.delay, domains=domains)
    else:
        output.csv([{"time_s": time_s, **domain} for domain in domains], header)
    output.flush()


def _table(xen: pyxc.Xen, usage: Iterable[pyxc.DomainUsage], total_kb: int, view: View) -> Iterator[str]:
    yield rows.line(rows.WIDTHS)
    for index, used in enumerate(usage):
        if view.repeat and index:
            yield rows.line(rows.WIDTHS)
        row = rows.row(xen, used, total_kb)
        name, *others = row.cells
        yield rows.line([name if view.full_names else name[: rows.WIDTHS["NAME"]], *others])
        yield from row.below(view)


def _json(xen: pyxc.Xen, used: pyxc.DomainUsage) -> dict[str, Any]:
    info = used.info
    return {
        "domid": info.domid,
        "name": name_of(xen, info),
        "uuid": str(info.uuid),
        "cpu_time_ns": info.cpu_time_ns,
        "cpu_percent": used.cpu_percent,
        "memory_kb": info.memory_kb,
        "max_memory_kb": limit_kb(info),
        "disks": _counters(used.disks),
        "networks": _counters(used.networks),
        "vcpus": [
            {"vcpu": vcpu.info.vcpu, "online": vcpu.info.online, "cpu": vcpu.info.cpu,
             "cpu_time_ns": vcpu.info.cpu_time_ns, "cpu_percent": vcpu.cpu_percent}
            for vcpu in used.vcpus
        ],
    }  # fmt: skip


def _counters(
    devices: tuple[pyxc.DiskCounters, ...] | tuple[pyxc.NetworkCounters, ...] | None,
) -> list[dict[str, Any]] | None:
    """Devices for JSON, each without the id of its domain."""
    return None if devices is None else [dict(zip(one._fields[1:], one[1:])) for one in devices]
