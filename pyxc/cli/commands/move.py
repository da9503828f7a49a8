# SPDX-License-Identifier: MIT
"""`save`, `restore`, `migrate`, `migrate-receive`: guests into files and back, and to other hosts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import bytes_per_s, seconds
from pyxc.cli.parser import Program
from pyxc.cli.progress import building, moving
from pyxc.cli.session import find, opened
from pyxc.cli.status import Status, UsageError

_TIMEOUT_S = 60.0
_LAST_WORDS_S = 5.0
_REMOTE = "pyxc migrate-receive"


def add(program: Program) -> None:
    save = program.add("save", save_guest, "write a guest to a file, and destroy it")
    save.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    save.add_argument(
        "file", metavar="FILE", help='file for pyxc restore or xl restore; "-" for the standard output'
    )
    after = save.add_mutually_exclusive_group()
    after.add_argument("-c", "--checkpoint", action="store_true", help="let it continue")
    after.add_argument("-p", "--paused", action="store_true", help="leave it here, paused")
    save.add_argument("-l", "--live", action="store_true", help="send its memory while it runs")
    save.add_argument("-F", dest="force", action="store_true", help="suspend it without its cooperation")
    save.add_argument("-z", "--compress", metavar="HOW", help="gzip, zstd or lz4")
    save.add_argument(
        "--replace", action="store_true", help="replace any existing file, not only a saved guest"
    )
    save.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="how long to wait for the guest to suspend"
    )
    restore = program.add("restore", restore_guest, "restore a guest from a file of xl save or pyxc save")
    restore.add_argument("file", metavar="FILE", help='"-" for the standard input')
    restore.add_argument("-p", "--paused", action="store_true", help="leave it paused")
    restore.add_argument("--name", metavar="NAME", help="another name")
    restore.add_argument("--uuid", metavar="UUID", help="another UUID")
    restore.add_argument("--no-devices", action="store_true", help="without its disks and network interfaces")
    migrate = program.add("migrate", migrate_guest, "move a guest to another host, while it runs")
    migrate.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    migrate.add_argument("host", metavar="HOST", help="the other host, as in ssh HOST")
    migrate.add_argument(
        "-s", "--tunnel", metavar="COMMAND", default="ssh", help="shell command to use instead of ssh"
    )
    migrate.add_argument(
        "--remote", metavar="COMMAND", default=_REMOTE, help="command to run on the other host"
    )
    migrate.add_argument("--stopped", action="store_true", help="stop it before its memory is sent")
    migrate.add_argument(
        "--bandwidth",
        metavar="RATE",
        type=bytes_per_s,
        help="send at most so many MiB a second while it runs; also with k, m or g",
    )
    migrate.add_argument(
        "--max-downtime",
        type=seconds,
        metavar="SECONDS",
        help="stop it once sending the rest is expected to take no longer (default: 0.3)",
    )
    migrate.add_argument("-F", dest="force", action="store_true", help="suspend it without its cooperation")
    migrate.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="how long to wait for the guest, and for the other host",
    )
    receive = program.add("migrate-receive", receive_guest, "receive a guest from pyxc migrate or xl migrate")
    receive.add_argument("-p", "--paused", action="store_true", help="leave it paused")


def save_guest(args: argparse.Namespace) -> int:
    quiet = args.json or not sys.stderr.isatty()
    target = _standard_output(args) if args.file == "-" else args.file
    with opened(args) as xen:
        domain = find(xen, args.domain)
        saved = domain.save(
            target,
            live=args.live,
            suspend="force" if args.force else "ask",
            timeout=_TIMEOUT_S if args.timeout is None else args.timeout,
            resume=args.checkpoint,
            compress=args.compress,
            replace=args.replace,
            provenance=args.provenance,
            progress=None if quiet else moving(),
        )
        if args.paused:
            domain.pause()
            domain.resume(None if args.force else True)
        elif not args.checkpoint:
            domain.destroy()
    if args.json:
        output.report(args.json, domid=domain.domid, uuid=str(domain.uuid), **saved._asdict())
    return Status.OK


def _standard_output(args: argparse.Namespace) -> BinaryIO:
    """ValueError if it is for something else."""
    if args.json or output.is_terminal():
        other = "the result" if args.json else "a terminal"
        raise ValueError(f"the standard output is for {other}: the guest needs a file")
    return sys.stdout.buffer


def restore_guest(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        progress = None if args.json else building()
        made = xen.restore(
            args.file,
            name=args.name,
            uuid=args.uuid,
            paused=args.paused,
            progress=progress,
            devices=not args.no_devices,
        )
    if args.json:
        output.report(args.json, domid=made.domid, uuid=str(made.uuid), kind=made.kind)
    return Status.OK


def migrate_guest(args: argparse.Namespace) -> int:
    import shlex

    live: bool | pyxc.Live = not args.stopped
    if args.max_downtime is not None:
        if args.stopped:
            raise UsageError("--max-downtime is for a guest that runs meanwhile, and --stopped stops it")
        live = pyxc.Live(max_downtime_s=args.max_downtime)
    host = shlex.quote(args.host) if args.tunnel else args.host
    command = f"exec {args.tunnel} {host} {args.remote}"
    with opened(args) as xen:
        domain = find(xen, args.domain)
        with _connected(command) as ends:
            moved = domain.migrate(
                ends,
                live=live,
                suspend="force" if args.force else "ask",
                timeout=_TIMEOUT_S if args.timeout is None else args.timeout,
                progress=None if args.json else moving(),
                max_bytes_per_s=args.bandwidth,
            )
            domain.destroy()
    if args.json:
        output.report(args.json, domid=domain.domid, uuid=str(domain.uuid), **moved._asdict())
    else:
        mib, stopped, total = moved.sent_bytes >> 20, moved.downtime_s, moved.total_s
        rounds = f"{moved.rounds} round{'' if moved.rounds == 1 else 's'} of written pages"
        output.lines([f"{args.domain}: {mib} MiB in {total:.1f} s, {rounds}, stopped for {stopped:.2f} s"])
    return Status.OK


@contextmanager
def _connected(command: str) -> Iterator[tuple[int, int]]:
    """A connection through a command. At the end the other side may say what was wrong, but is not waited for
    if it says nothing."""
    from subprocess import PIPE, Popen, TimeoutExpired

    there = Popen(command, shell=True, stdin=PIPE, stdout=PIPE)
    assert there.stdin and there.stdout
    try:
        with there.stdin, there.stdout:
            yield there.stdout.fileno(), there.stdin.fileno()
    finally:
        try:
            with suppress(TimeoutExpired):
                there.wait(_LAST_WORDS_S)
        finally:
            there.terminate()
            there.wait()


def receive_guest(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        made = xen.receive(standard_ends(), paused=args.paused)
    if args.json:
        output.report(args.json, domid=made.domid, uuid=str(made.uuid), kind=made.kind)
    return Status.OK


def standard_ends() -> tuple[int, int]:
    """Standard input and output: the connection to the other side."""
    return 0, 1
