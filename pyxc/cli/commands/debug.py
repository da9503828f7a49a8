# SPDX-License-Identifier: MIT
"""`gdb`, `drgn` and `memory-server`: debuggers that look into a running guest."""

from __future__ import annotations

import argparse
import runpy
import socket
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pyxc
from pyxc import debug, metrics
from pyxc.cli import output
from pyxc.cli.dumps import add_vmcoreinfo, described
from pyxc.cli.parser import Parser, Program
from pyxc.cli.session import find, opened
from pyxc.cli.status import UsageError
from pyxc.debug.memory_client import SERVED

_LOOPBACK = ("127.0.0.1", 0)
_CLIENTS_MOST = 16


def add(program: Program) -> None:
    gdb = program.add("gdb", serve_gdb, "inspect a guest with GDB, which pauses it")
    gdb.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    gdb.add_argument(
        "--writable", action="store_true", help="GDB may set breakpoints, step, write to the guest"
    )
    _add_places(gdb)
    server = program.add("memory-server", serve_memory, "serve a guest's memory to pyxc on another machine")
    server.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    server.add_argument("--writable", action="store_true", help="clients may change the guest's memory")
    _add_places(server)
    drgn = program.add("drgn", run_drgn, "debug the kernel of a running Linux guest with drgn")
    drgn.add_argument(
        "domain", metavar="DOMAIN", help="id, name or UUID; or a memory server, as unix:PATH or tcp:HOST:PORT"
    )
    drgn.add_argument("script", metavar="SCRIPT", nargs="?", help="Python file (default: a prompt)")
    drgn.add_argument("arguments", metavar="ARG", nargs="*", help="of the script")
    drgn.add_argument("--vmlinux", metavar="FILE", action="append", help="file with the kernel's symbols")
    add_vmcoreinfo(drgn)


def _add_places(parser: Parser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=int, metavar="N", help="of 127.0.0.1 (default: any free one)")
    where.add_argument("--unix", metavar="PATH", help="listen on a Unix socket instead")
    where.add_argument("--stdio", action="store_true", help="use standard input and output instead")


def serve_gdb(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        if args.json:
            threads = [info.vcpu for info in domain.vcpus.infos() if info.online]
            output.report(args.json, domid=domain.domid, uuid=str(domain.uuid), vcpus=threads)
        elif args.stdio:
            debug.GdbSession(domain, writable=args.writable).serve(debug.StandardEnds())
        else:
            with _listening(args, "target remote {}") as listening:
                connection, _ = listening.accept()
                with connection:
                    debug.GdbSession(domain, writable=args.writable).serve(connection)
    return 0


def serve_memory(args: argparse.Namespace) -> int:
    args.read_only = not args.writable
    with opened(args) as xen, debug.DomainMemory(find(xen, args.domain), writable=args.writable) as memory:
        session = debug.MemorySession(memory)
        if args.json:
            output.report(args.json, **memory.facts._asdict())
        elif args.stdio:
            session.serve(debug.StandardEnds())
        else:
            with _listening(args, "pyxc drgn {}") as listening:
                _serve_all(listening, session)
    return 0


def _serve_all(listening: socket.socket, session: debug.MemorySession) -> None:
    """Serve clients side by side until an exception, as of Ctrl-C; more than the most have to wait."""
    free = threading.Semaphore(_CLIENTS_MOST)

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                session.serve(connection)
            except pyxc.DecodeError as error:
                output.complain(str(error))
            finally:
                free.release()

    try:
        while True:
            free.acquire()
            connection, _ = listening.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()
    finally:
        session.close()


def _listening(args: argparse.Namespace, use: str) -> socket.socket:
    """Listen, and say how to connect."""
    if args.unix:
        listening = metrics.on_path(args.unix)
        place = args.unix if "target" in use else f"unix:{args.unix}"
    else:
        listening = metrics.on_loopback(_LOOPBACK[0], args.port or 0)
        host, port = listening.getsockname()[:2]
        place = f"{host}:{port}" if "target" in use else f"tcp:{host}:{port}"
    output.lines([f"listening: {use.format(place)}"])
    sys.stdout.flush()
    return listening


def run_drgn(args: argparse.Namespace) -> int:
    text = described(args)
    with ExitStack() as stack:
        guest: Any
        if args.domain.startswith(SERVED):
            guest = stack.enter_context(debug.connect_memory(args.domain))
        else:
            args.read_only = True
            xen = stack.enter_context(opened(args))
            guest = stack.enter_context(debug.DomainMemory(find(xen, args.domain)))
        if args.json:
            output.report(args.json, **guest.facts._asdict(), vmcoreinfo=_known(guest, text))
            return 0
        program = debug.drgn_program(guest, vmcoreinfo=text)
        _load_symbols(program, args.vmlinux)
        _run(program, args.script, args.arguments)
    return 0


def _known(guest: Any, text: bytes | None) -> str | None:
    """The kernel's description; None if there is none."""
    with suppress(LookupError, OSError):
        return (text or guest.vmcoreinfo()).decode("ascii", "replace")
    return None


def _load_symbols(program: Any, files: list[str] | None) -> None:
    """The given files, or what this machine has for the kernel's build id; it is fine to have none."""
    import drgn

    try:
        if files:
            program.load_debug_info(files)
        else:
            program.load_default_debug_info()
    except drgn.MissingDebugInfoError as error:
        output.complain(f"warning: {str(error).splitlines()[0]}")


def _run(program: Any, script: str | None, arguments: list[str]) -> None:
    import drgn

    if script is None:
        from drgn.cli import run_interactive

        run_interactive(program)
        return
    if not Path(script).is_file():
        raise UsageError(f"SCRIPT: {script} is not a file")
    before, sys.argv = sys.argv, [script, *arguments]
    drgn.set_default_prog(program)
    try:
        runpy.run_path(script, init_globals={"prog": program}, run_name="__main__")
    finally:
        drgn.set_default_prog(None)
        sys.argv = before
