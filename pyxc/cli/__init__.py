# SPDX-License-Identifier: MIT
"""The pyxc command; man/pyxc.1 describes it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from pyxc.cli import output, stopping
from pyxc.cli.status import Status, describe, notes, status_of

HOOK = "__complete"
"""The command with which the files in completions/ ask."""

_SIGNALLED = 128
"""Statuses above tell of the signal that ended a command, as shells have them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. Only a bug in pyxc itself raises."""
    words = sys.argv[1:] if argv is None else list(argv)
    output.begin()
    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = _show_warning
        try:
            with stopping.by_exceptions():
                status = _run(words)
                output.flush()
                return status
        except stopping.Stopped as stopped:
            _complain_of_what_is_left(stopped)
            return Status(_SIGNALLED + stopped.number)
        except KeyboardInterrupt as interrupt:
            _complain_of_what_is_left(interrupt)
            return Status.INTERRUPTED
        except output.Closed:
            output.discard()
            return Status.BROKEN_PIPE
        except Exception as error:
            expected = status_of(error)
            if expected is None:
                raise
            output.complain(describe(error))
            output.give_up()
            return expected


def _complain_of_what_is_left(interrupt: BaseException) -> None:
    for note in notes(interrupt):
        output.complain(note)


def _run(words: list[str]) -> int:
    if words[:1] == [HOOK]:
        from pyxc.cli.commands import build
        from pyxc.cli.completion import complete

        return complete(build(), words[1:])
    if words == ["--version"]:  # what scripts ask for needs no parser
        output.lines([output.VERSION])
        return 0
    if not words:
        from pyxc.cli import overview

        output.lines(overview.SHORT.splitlines())
        return Status.USAGE
    if "--" in words:
        from pyxc.cli import traced

        if traced.command_in(words):
            return traced.run(words, _run)
    from pyxc.cli.commands import NAMES, build
    from pyxc.cli.parser import Program

    try:
        if "help" in words:
            words = Program().without_help(words)
        args = build(words).parse(words, NAMES)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        return int(args.run(args))
    except Exception as error:
        status = status_of(error)
        if status not in (None, Status.USAGE) and args.json == "json" and not output.written():
            _report_failure(error, status)
        raise


def _report_failure(error: Exception, status: Status) -> None:
    """JSON for what failed as a whole, so that programs always get an object."""
    with suppress(OSError, output.Closed):
        failure = {"argument": None, "status": int(status), "error": describe(error)}
        output.report("json", failed=[failure])


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    output.complain(f"warning: {message}")
