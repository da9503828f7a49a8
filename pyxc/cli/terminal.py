# SPDX-License-Identifier: MIT
"""A guest's console on this terminal: raw while a person talks to the guest, else as harmless text."""

from __future__ import annotations

import codecs
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pyxc
from pyxc.cli import output

ESCAPE = b"\x1d"
"""Ctrl-], which detaches."""
_LOOK_S = 0.05
_ONCE = 4096
_TYPED_MOST = 1 << 16


class Harmless:
    """Makes text of what a guest prints; control characters, which act on a terminal, become \\x1b."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def text(self, data: bytes) -> str:
        return output.harmless(self._decoder.decode(data).replace("\r\n", "\n"), "\n\t")


def talk(console: pyxc.Console, escape: bytes = ESCAPE) -> bool:
    """Connect this process's terminal with a console, raw, until `escape` is typed (False) or it ends (True).

    Without a terminal at both ends what the guest prints is made harmless, and what standard input has is
    typed until it ends. What a guest does not read is dropped beyond 64 KiB.
    """
    source = sys.stdin.fileno()
    person = sys.stdin.isatty() and sys.stdout.isatty()
    show = _write_raw if person else _write_harmless(Harmless())
    typed, open_ = b"", True
    console.open()
    with _raw(source) if person else nullcontext():
        while True:
            ended = console.ended()
            data = console.read(timeout=0)
            show(data)
            if ended and not data:
                return True
            typed = typed[console.write_some(typed) :] if typed else b""
            if not _wait(console, source if open_ and (person or not typed) else None):
                continue
            new = os.read(source, _ONCE)
            open_ = bool(new)
            if person and escape in new:
                console.write_some(typed + new[: new.index(escape)])
                return False
            typed = (typed + new)[:_TYPED_MOST]


def _wait(console: pyxc.Console, source: int | None) -> bool:
    """Until there may be something to do; whether something was typed."""
    waited = [one for one in (console.fileno(), source) if one is not None]
    return source in select.select(waited, [], [], _LOOK_S)[0]


def _write_harmless(harmless: Harmless) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        if data:
            output.write(harmless.text(data))
            output.flush()

    return write


def _write_raw(data: bytes) -> None:
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """The terminal as the guest's own, and afterwards as it was."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
