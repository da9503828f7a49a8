# SPDX-License-Identifier: MIT
"""`trace -- COMMAND`: another command, with its hypercalls on standard error."""

from __future__ import annotations

import os
from collections.abc import Callable

from pyxc.cli.parser import Program
from pyxc.cli.status import UsageError

_COMMAND, _SUMMARY, _END = "trace", "--summary", "--"
_VARIABLE = "PYXC_TRACE"


def command_in(words: list[str]) -> bool:
    """Whether these are the words of such a command, not of `trace record`."""
    head = words[: words.index(_END)]
    program, others = Program(), [word for word in head if word != _COMMAND]
    return program.command_of(head) == _COMMAND and program.command_of(others) is None


def run(words: list[str], act: Callable[[list[str]], int]) -> int:
    """Run the command behind the `--` with the options in front of it."""
    place = words.index(_END)
    options = [word for word in words[:place] if word not in (_COMMAND, _SUMMARY)]
    if place + 1 == len(words):
        raise UsageError("trace -- has no command behind it (see pyxc trace --help)")
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "summary" if _SUMMARY in words[:place] else "1"
    try:
        return act([*options, *words[place + 1 :]])
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
