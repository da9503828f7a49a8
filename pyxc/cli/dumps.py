# SPDX-License-Identifier: MIT
"""What the commands that write dumps have in common: formats, and a kernel's description of itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from pyxc.cli.parser import Parser
from pyxc.cli.status import UsageError
from pyxc.guest.core_convert import FORMATS
from pyxc.guest.core_dump import XEN

NO_KERNEL = "no VMCOREINFO was found: is it a guest with Linux?"
_TEXT_MOST = 1 << 16


def add_format(parser: Parser, *xens: str) -> None:
    """The formats of Linux, and before them those of `xens`; the first one is the default."""
    formats = (*xens, *FORMATS)
    parser.add_argument(
        "--format", choices=formats, default=formats[0], help=f"of the file (default: {formats[0]})"
    )
    add_vmcoreinfo(parser)


def add_vmcoreinfo(parser: Parser) -> None:
    parser.add_argument(
        "--vmcoreinfo", metavar="FILE", help="the kernel's description, else it is searched for"
    )


def described(args: argparse.Namespace) -> bytes | None:
    """The kernel's description of itself that was given."""
    if args.vmcoreinfo is None:
        return None
    with Path(args.vmcoreinfo).open("rb") as file:
        return file.read(_TEXT_MOST)


def described_for(args: argparse.Namespace) -> bytes | None:
    """The same, for a dump in the chosen format."""
    text = described(args)
    if text is not None and args.format == XEN:
        raise UsageError(f"--vmcoreinfo is for --format {' or '.join(FORMATS)}")
    return text
