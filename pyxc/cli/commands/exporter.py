# SPDX-License-Identifier: MIT
"""`exporter`: metrics for Prometheus."""

from __future__ import annotations

import argparse
import re
import signal
import socket
import sys
import time
from contextlib import ExitStack

from pyxc import metrics
from pyxc.cli import output
from pyxc.cli.arguments import seconds
from pyxc.cli.parser import Program
from pyxc.cli.session import opened

_ADDRESS = "127.0.0.1:9779"
_USER = "nobody"
_WHERE = re.compile(r"(?:\[([0-9a-fA-F:]+)\]|([0-9.]+)):([0-9]{1,5})")


def add(program: Program) -> None:
    exporter = program.add("exporter", run, "serve metrics to Prometheus")
    where = exporter.add_mutually_exclusive_group()
    where.add_argument(
        "--listen", type=_address, metavar="ADDRESS:PORT", help=f"on the loopback interface, else {_ADDRESS}"
    )
    where.add_argument("--unix", metavar="PATH", help="listen on a Unix socket instead")
    where.add_argument("--textfile", metavar="FILE", help="write a file for node_exporter instead")
    where.add_argument("--once", action="store_true", help="print the metrics of this moment")
    exporter.add_argument("--runstates", action="store_true", help="trace how long vcpus wait for a cpu")
    exporter.add_argument("--interval", type=seconds, metavar="SECONDS", help="write the file so often")
    exporter.add_argument("--user", default=_USER, metavar="NAME", help=f"serve as this user, else {_USER}")


def run(args: argparse.Namespace) -> int:
    with ExitStack() as open_things:
        steal = None
        if args.runstates:
            # A service is stopped by SIGTERM, and has to turn tracing off.
            before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
            open_things.callback(signal.signal, signal.SIGTERM, before)
            tracing = open_things.enter_context(opened(args))
            steal = open_things.enter_context(metrics.StealMeter(tracing))
        args.read_only = True
        exporter = metrics.Exporter(open_things.enter_context(opened(args)), steal)
        if args.once and args.json:
            output.report(args.json, metrics=exporter.render())
        elif args.once:
            output.write(exporter.render())
        elif args.textfile:
            _write(exporter, args.textfile, args.interval)
        else:
            _serve(exporter, _listening(args), args.user)
    return 0


def _write(exporter: metrics.Exporter, path: str, interval: float | None) -> None:
    metrics.write_textfile(path, exporter.render())
    while interval is not None:
        time.sleep(interval)
        metrics.write_textfile(path, exporter.render())


def _listening(args: argparse.Namespace) -> socket.socket:
    """Of systemd where it started this process, unless an option says where."""
    if args.unix:
        return metrics.on_path(args.unix)
    if args.listen:
        return metrics.on_loopback(*args.listen)
    return metrics.activated() or metrics.on_loopback(*_address(_ADDRESS))


def _serve(exporter: metrics.Exporter, listening: socket.socket, user: str) -> None:
    """A first scrape opens what needs root: the connections to xenstore."""
    with listening:
        exporter.render()
        metrics.drop_root(user)
        metrics.serve(listening, exporter.render)


def _address(text: str) -> tuple[str, int]:
    """An address and a port, "127.0.0.1:9779" or "[::1]:9779"."""
    match = _WHERE.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS:PORT")
    return match[1] or match[2], int(match[3])
