# SPDX-License-Identifier: MIT
"""`console`: a guest's console on this terminal."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from pyxc.cli import output
from pyxc.cli.parser import Program
from pyxc.cli.session import find, opened
from pyxc.cli.status import Status
from pyxc.cli.terminal import ESCAPE, Harmless, talk
from pyxc.files.rotating import RotatingLog


def add(program: Program) -> None:
    parser = program.add("console", show, "connect this terminal with a guest's console")
    parser.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    parser.add_argument(
        "-e",
        "--escape",
        type=_control,
        default=ESCAPE,
        metavar="CHAR",
        help="key that detaches (default: ^])",
    )
    parser.add_argument("-t", "--type", choices=("pv",), default="pv", help="pv, the only supported type")
    parser.add_argument("--last", action="store_true", help="only print what is still in its ring")
    parser.add_argument("--log", metavar="FILE", help="also append its output to a file")


def _control(text: str) -> bytes:
    """A control character, as ^] or as itself."""
    if len(text) == 2 and text[0] == "^" and "?" <= text[1].upper() <= "_":
        return bytes([ord(text[1].upper()) ^ 0x40])
    if len(text) != 1 or not text.isascii():
        raise argparse.ArgumentTypeError(f"{text!r} is not a character like ^]")
    return text.encode()


def show(args: argparse.Namespace) -> int:
    with opened(args) as xen, ExitStack() as stack:
        domain = find(xen, args.domain)
        if args.json or args.last:
            text = Harmless().text(domain.console.last())
        else:
            if args.log:
                domain.console.copy = stack.enter_context(RotatingLog(args.log)).write
            with domain.console as console:
                talk(console, args.escape)
            return Status.OK
    if args.json:
        output.report(args.json, domid=domain.domid, uuid=str(domain.uuid), text=text)
    else:
        # The prompt that comes next is to have a line of its own.
        output.write(f"{text}\n" if output.is_terminal() and text and not text.endswith("\n") else text)
    return Status.OK
