# SPDX-License-Identifier: MIT
"""`inspect` and `verify`: where files come from, and whether they are as pyxc wrote them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pyxc import errors
from pyxc.cli import output
from pyxc.cli.parser import Program
from pyxc.cli.session import Attempt, worst
from pyxc.cli.status import Status
from pyxc.files import labels, provenance
from pyxc.files.provenance import Provenance

_TIMES = ("started_s", "ended_s")
# Times are added to it: where time_t has 32 bits, the C library ends in 2038.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def add(program: Program) -> None:
    inspect = program.add("inspect", inspect_file, "show a file's provenance and label")
    inspect.add_argument("file", metavar="FILE", help="a file")
    verify = program.add("verify", verify_files, "check whether files are unchanged since pyxc wrote them")
    verify.add_argument("files", metavar="FILE", nargs="+", help="files that pyxc wrote")


def inspect_file(args: argparse.Namespace) -> int:
    said = provenance.read(args.file)
    label, problem = _label_or_problem(args.file)
    problems = [*said.problems, *([problem] if problem else [])]
    if args.json:
        output.report(args.json, file=args.file, label=label, **_as_json(said) | {"problems": problems})
        return Status.OK
    output.lines(f"{key:<23}: {value}" for key, value in _rows(label, said))
    for text in problems:
        output.complain(f"{args.file}: {text}")
    return Status.OK


def _label_or_problem(file: str) -> tuple[str | None, str | None]:
    try:
        return labels.get(file), None
    except errors.AttributeForbidden as error:
        return None, error.strerror
    except errors.DecodeError as error:
        return None, str(error).removeprefix(f"{file}: ")


def _rows(label: str | None, said: Provenance) -> Iterator[tuple[str, object]]:
    yield "label", label or "-"
    yield "provenance", said.source or "unknown"
    if said.origin:
        yield from _rows_of(said.origin)
    if said.digest:
        yield from _rows_of(said.digest, "digest_")


def _rows_of(record: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    """What is known of a record, and of the records in it."""
    for name, value in record._asdict().items():
        if isinstance(value, tuple):
            yield from _rows_of(value, f"{name}_")
        elif name in _TIMES and value is not None:
            yield name.removesuffix("_s"), (_EPOCH + timedelta(seconds=value)).strftime("%Y-%m-%dT%H:%M:%SZ")
        elif value is not None:
            yield prefix + name, getattr(value, "value", value)


def verify_files(args: argparse.Namespace) -> int:
    attempt = Attempt(args.files, provenance.verify)
    if args.json:
        found = [
            {"file": file.path, "verdict": file.verdict.value, "reason": file.reason}
            | _as_json(file.provenance)
            for file in attempt.results
        ]
        output.report(args.json, files=found, failed=attempt.failures)
    else:
        output.lines(f"{file.path}: {file.verdict.value}: {file.reason}" for file in attempt.results)
    return worst((Status[file.verdict.name] for file in attempt.results), attempt.status)


def _as_json(said: Provenance) -> dict[str, Any]:
    return {**_plain(said), "problems": list(said.problems)}


def _plain(record: Any) -> Any:
    """A record, and the records in it, as dictionaries."""
    if hasattr(record, "_asdict"):
        return {name: _plain(value) for name, value in record._asdict().items()}
    return getattr(record, "value", record)
