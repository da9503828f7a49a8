# SPDX-License-Identifier: MIT
"""`doctor`: what programs that were killed have left."""

from __future__ import annotations

import argparse

from pyxc.cli import output
from pyxc.cli.parser import Program
from pyxc.cli.session import Attempt, opened
from pyxc.cli.status import Status
from pyxc.files.parts import abandoned


def add(program: Program) -> None:
    purpose = "list what killed programs have left, and how to remove it"
    doctor = program.add("doctor", _doctor, purpose)
    doctor.add_argument("directories", metavar="DIRECTORY", nargs="*", help="where dumps or recordings are")


def _doctor(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        found = xen.leftovers()
    attempt = Attempt(args.directories, abandoned)
    found += [left for lefts in attempt.results for left in lefts]
    seen = [left for left in found if left.kind != "unknown"]
    unknown = [left for left in found if left.kind == "unknown"]
    if args.json:
        output.report(args.json, leftovers=[left._asdict() for left in found], failed=attempt.failures)
    else:
        output.lines(f"{left.subject}: {left.found}; to end that: {left.remedy}" for left in seen)
    for left in unknown:
        output.complain(f"{left.subject}: {left.found}")
    if seen:
        return Status.LEFT
    return Status.PARTIAL if unknown else attempt.status
