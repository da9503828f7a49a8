# SPDX-License-Identifier: MIT
"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it has half done is undone first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal other than SIGINT requested the end of the process."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def by_exceptions() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise Stopped once. What is ignored, as under nohup, stays so."""
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for caught in before:
            signal.signal(caught, signal.SIG_IGN)  # what undoes things is not stopped by a second one
        raise Stopped(number)

    try:
        for number in SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    except ValueError:  # signals are the affair of another thread
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
