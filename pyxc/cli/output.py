# SPDX-License-Identifier: MIT
"""Everything that the command writes goes through here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

SCHEMA = 1
"""Version of the JSON: raised when a key changes its meaning or goes away, not when one is added."""


class Closed(Exception):
    """Nobody reads standard output any more."""


def lines(texts: Iterable[str]) -> None:
    for text in texts:
        write(f"{text}\n")


def as_json(**content: Any) -> None:
    """One object with the version of the schema."""
    import json

    write(json.dumps({"schema": SCHEMA, **content}, indent=2) + "\n")


def write(text: str) -> None:
    try:
        sys.stdout.write(text)
    except BrokenPipeError as error:
        raise Closed from error


def flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise Closed from error


def discard() -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain about it when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())


def remark(text: str) -> None:
    """One line on standard error that is no complaint, after what was printed before."""
    flush()
    print(text, file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """One line on standard error, after what was printed before."""
    remark(f"pyxc: {text}")
