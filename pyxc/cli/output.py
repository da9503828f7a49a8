# SPDX-License-Identifier: MIT
"""Everything that the command writes goes through here."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import pyxc

VERSION = f"pyxc {pyxc.__version__}"
SCHEMA = 1
"""Version of the JSON: raised when a key changes its meaning or goes away, not when one is added."""


class Closed(Exception):
    """The reader of standard output has gone."""


def lines(texts: Iterable[str]) -> None:
    """Text output: each item remains one line, whatever the names of guests and files."""
    for text in texts:
        write(f"{harmless(text)}\n")


def harmless(text: str, kept: str = "\t") -> str:
    """Text of others for people: what may act on a terminal becomes \\x1b and the like, but for `kept`."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter in kept or letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def coloured(stream: TextIO | None = None) -> bool:
    """Whether output may have colours: a terminal's, unless NO_COLOR (no-color.org) is set."""
    stream = stream or sys.stdout
    return not os.environ.get("NO_COLOR") and stream is not None and stream.isatty()


def as_json(**content: Any) -> None:
    """One object with the version of the schema."""
    import json

    write(json.dumps({"schema": SCHEMA, **content}, indent=2) + "\n")


def write(text: str) -> None:
    with _told():
        out = _out()
        try:
            out.write(text)
        except UnicodeEncodeError:
            narrow = out.encoding or "ascii"
            out.write(text.encode(narrow, "backslashreplace").decode(narrow))


def flush() -> None:
    if sys.stdout is not None:
        with _told():
            sys.stdout.flush()


def _out() -> TextIO:
    """Standard output; OSError where the process was started without one."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return sys.stdout


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong with standard output: Closed, or an OSError that names it."""
    try:
        yield
    except BrokenPipeError as error:
        raise Closed from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


def discard() -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain about it when it exits."""
    _lead_nowhere(sys.stdout)


def give_up() -> None:
    """At the end of a command that failed: write what is left, if that can be."""
    try:
        flush()
    except (OSError, Closed):
        discard()


def remark(text: str) -> None:
    """One informational line on standard error, after earlier output.

    If that cannot be printed, flush() says it later.
    """
    with suppress(OSError):
        flush()
    try:
        if sys.stderr is not None:
            print(harmless(text), file=sys.stderr, flush=True)
    except OSError:
        _lead_nowhere(sys.stderr)


def complain(text: str) -> None:
    """One line on standard error, after what was printed before."""
    remark(f"pyxc: {text}")


def _lead_nowhere(stream: TextIO | None) -> None:
    if stream is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        with suppress(io.UnsupportedOperation):
            os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)
