# SPDX-License-Identifier: MIT
"""`dump-core`: the memory and the registers of a domain in a file."""

from __future__ import annotations

import argparse
import os
import re
import time

import pyxc
from pyxc.cli import output, progress
from pyxc.cli.dumps import NO_KERNEL, add_format, described_for
from pyxc.cli.parser import Program
from pyxc.cli.session import find, opened
from pyxc.cli.status import UsageError
from pyxc.guest.core_dump import XEN

_DUMPS = "/var/lib/xen/dump"


def add(program: Program) -> None:
    dump = program.add("dump-core", dump_core, "write a domain's memory and registers to a file")
    dump.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    dump.add_argument(
        "file", metavar="FILE", nargs="?", help=f"replaced when the dump is complete (default: {_DUMPS}/...)"
    )
    dump.add_argument("--live", action="store_true", help="do not pause the domain during the dump")
    dump.add_argument("--force", action="store_true", help="populate memory that is populated on demand")
    add_format(dump, XEN)


def dump_core(args: argparse.Namespace) -> int:
    if args.file == "-":
        raise UsageError("a dump cannot go to the standard output: it needs a file")
    text = described_for(args)
    with opened(args) as xen:
        domain = find(xen, args.domain)
        file = args.file or _dump_file(domain)
        dump = domain.dump_core(
            file,
            pause=not args.live,
            force=args.force,
            replace=args.force,
            provenance=args.provenance,
            progress=progress.building(),
            format=args.format,
            vmcoreinfo=text,
        )
    if args.json:
        identity = {"domid": domain.domid, "uuid": str(domain.uuid)}
        output.report(args.json, **identity, file=file, **dump._asdict())
    elif dump.nr_missing:
        output.lines([f"{dump.nr_missing} of {dump.nr_pages} pages could not be read"])
    elif args.format != XEN and dump.kernel is None:
        output.lines([NO_KERNEL])
    return 0


def _dump_file(domain: pyxc.Domain) -> str:
    """A new name where xl has its dumps, for a domain with any name."""
    os.makedirs(_DUMPS, mode=0o700, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", domain.name or "").lstrip(".") or "domain"
    file = f"{_DUMPS}/{name}-{domain.domid}-{time.strftime('%Y%m%d-%H%M%S')}.core"
    output.remark(f"dumping core to {file}")
    return file
