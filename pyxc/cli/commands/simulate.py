# SPDX-License-Identifier: MIT
"""`sim`: a simulated host for several programs."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from contextlib import suppress

from pyxc import sim
from pyxc.cli import output
from pyxc.cli.parser import Program
from pyxc.cli.status import UsageError
from pyxc.cli.stopping import SIGNALS, Stopped
from pyxc.opening import SIMULATED

_SOCKET = "pyxc-sim.socket"
_MODE = 0o600


def add(program: Program) -> None:
    serve = program.add("sim", serve_host, "serve a simulated host to several programs, until interrupted")
    serve.add_argument(
        "host", metavar="HOST", nargs="?", default=sim.DEFAULT, help="as xen-4.17, the default"
    )
    serve.add_argument(
        "--socket", metavar="PATH", default=_SOCKET, help=f"where it listens (default: {_SOCKET})"
    )
    serve.add_argument("--state", metavar="FILE", help="keep the host in this file until the next time")
    serve.add_argument("--list", action="store_true", help="list the hosts that can be simulated")


def serve_host(args: argparse.Namespace) -> int:
    if args.list:
        return _list(args)
    if args.target or args.record:
        raise UsageError("--target and --record are for the programs that use the simulated host")
    from pyxc import metrics  # both are slow to import, and the help needs neither
    from pyxc.sim.server import Server, booted

    target = args.host if args.host.startswith(SIMULATED) else SIMULATED + args.host
    with metrics.on_path(args.socket, _MODE) as listening:
        try:
            link = booted(target if args.state is None else f"{target}@{args.state}")
            try:
                place = shlex.quote(f"{SIMULATED}@{os.path.abspath(args.socket)}")
                output.lines([f"export PYXC_TARGET={place}"])
                sys.stdout.flush()
                received = Server(link).serve_until(listening, (signal.SIGINT, *SIGNALS))
            finally:
                link.close()
        finally:
            with suppress(FileNotFoundError):
                os.unlink(args.socket)
    if received != signal.SIGINT:
        raise Stopped(received)
    raise KeyboardInterrupt


def _list(args: argparse.Namespace) -> int:
    if args.json:
        hosts = [{"target": target, "description": text} for target, text in sim.PROFILES.items()]
        output.report(args.json, hosts=hosts)
    else:
        output.lines(f"{target.removeprefix(SIMULATED):<16} {text}" for target, text in sim.PROFILES.items())
    return 0
