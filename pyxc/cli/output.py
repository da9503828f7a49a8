# SPDX-License-Identifier: MIT
"""Everything that the command writes goes through here."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def coloured(choice: str) -> bool:
    """Whether output may have colours: "always", "never", or "auto", on a terminal without NO_COLOR."""
    if choice == "auto":
        return not os.environ.get("NO_COLOR") and is_terminal()
    return choice == "always"


def is_terminal() -> bool:
    """Whether standard output is read by a person."""
    return sys.stdout is not None and sys.stdout.isatty()


_STYLES = {"bold": "1", "dim": "2", "alert": "31", "": ""}


def table(choice: str, header: str, rows: Iterable[tuple[str, str]]) -> None:
    """A header and rows, each with a style: bold, dim, alert or none. `choice` is that of --color."""
    colours = coloured(choice)
    for text, style in ((header, "bold"), *rows):
        shown = harmless(text)
        write(f"\x1b[{_STYLES[style]}m{shown}\x1b[0m\n" if colours and style else f"{shown}\n")


def padded(text: str, width: int) -> str:
    """A text at the left of a column: by what a terminal shows, and in a file by bytes, as xl does it."""
    if text.isascii():
        return f"{text:<{width}}"
    if is_terminal():
        from pyxc.cli import columns

        return columns.left(columns.cut(text, width), width)
    return text + " " * (width - len(text.encode(errors="surrogateescape")))


def report(form: str, **content: Any) -> None:
    """What --json, --jsonl and --csv print, with the version of the schema.

    "json" is one object. In the other forms each object of the lists in `content` is a line, with what stands
    beside the lists; without such a list all is one line. Failures are on standard error then.
    """
    if form == "json":
        import json

        write(json.dumps({"schema": SCHEMA, **content}, indent=2) + "\n")
        return
    content.pop("failed", None)
    lists = [value for value in content.values() if _are_objects(value)]
    beside = {key: value for key, value in content.items() if not _are_objects(value)}
    rows = [{**beside, **one} for listed in lists or [[{}]] for one in listed]
    if form == "csv":
        csv(rows)
        return
    for row in rows:
        json_line(**row)


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def json_line(**content: Any) -> None:
    """One object a line, so that programs can read what has happened so far."""
    import json

    write(json.dumps({"schema": SCHEMA, **content}, separators=(",", ":")) + "\n")


def csv(rows: Sequence[Mapping[str, object]], header: bool = True) -> None:
    """Rows in CSV (RFC 4180) under the names of their columns; what is not known is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if header and names:
        write(",".join(map(cell, names)) + "\n")
    for row in rows:
        write(",".join(cell(row.get(name)) for name in names) + "\n")


def cell(value: object) -> str:
    """A value in CSV; lists and objects are JSON."""
    if value is None:
        return ""
    text = str(value)
    if isinstance(value, list | tuple | dict):
        import json

        text = json.dumps(value, separators=(",", ":"))
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if set(text) & set(',"\r\n') else text


_written = False


def begin() -> None:
    """A new command: nothing is written yet."""
    global _written
    _written = False


def written() -> bool:
    """Whether this command has written something to standard output."""
    return _written


def write(text: str) -> None:
    global _written
    _written = True
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
