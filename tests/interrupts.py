# SPDX-License-Identifier: MIT
"""Signals at every moment at which Python can run their handlers: one run for each moment."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pyxc

_STEPS = ("CALL", "RESUME", "JUMP_BACKWARD")
"""Instructions, by the start of their names, after which CPython looks for signals."""
_NO_STEPS = "CALL_INTRINSIC"
"""Those after which it does not. Some end a generator that nothing reads to its end."""
_PACKAGE = str(Path(pyxc.__file__).parent)
_ELSEWHERE = f"{_PACKAGE}/sim/"
"""A simulated host is another machine: no signal of this process interrupts it."""


class _Tracer:
    """Counts moments while it traces, and acts at one of them."""

    def __init__(self, moment: int, handler: Callable[[], None]) -> None:
        self.moments = 0
        self._wanted = moment
        self._handler = handler
        self._before: dict[FrameType, str] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call" and not _of_the_library(frame):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self._step(frame)
        elif event == "return":
            self._before.pop(frame, None)
        return self

    def _step(self, frame: FrameType) -> None:
        before = self._before.get(frame, "")
        self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if before.startswith(_STEPS) and not before.startswith(_NO_STEPS):
            self.moments += 1
            if self.moments == self._wanted:
                sys.settrace(None)
                self._handler()


def _of_the_library(frame: FrameType) -> bool:
    """Whether this code belongs to the library itself."""
    if not frame.f_code.co_filename.startswith(_PACKAGE):
        return False
    caller: FrameType | None = frame
    while caller is not None and not caller.f_code.co_filename.startswith(_ELSEWHERE):
        caller = caller.f_back
    return caller is None


def at_every_moment(
    action: Callable[[], object], handler: Callable[[], None], expected: type[BaseException] | tuple[()] = ()
) -> Iterator[int]:
    """Repeat an action, each time with a signal one moment later; yield after each.

    What the handler raises, and the action passes on, is `expected`.
    """
    moment, others = 0, sys.gettrace()  # that of a measurement of coverage
    while True:
        moment += 1
        tracer = _Tracer(moment, handler)
        # Python 3.12 sends these events only if any frame asks for them by now.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(tracer)
        try:
            action()
        except expected:
            pass
        finally:
            sys.settrace(others)
        if tracer.moments < moment:
            return
        del tracer  # and with it the frames that it has seen
        yield moment
