# SPDX-License-Identifier: MIT
"""Prints each call, decoded, as strace prints system calls, or adds them up, as strace -c does."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TextIO

from pyxc.abi.errno import describe, name_of
from pyxc.abi.operation import Operation
from pyxc.call.reply import Trace

Fields = Mapping[str, Any]
_LONG = 32


def printer(stream: TextIO | None = None) -> Trace:
    """A trace that writes one line a call: operation(what went in) = result {what came out} <seconds>."""

    def trace(operation: Operation, sent: Fields, result: int, received: Fields, seconds: float) -> None:
        changed = {name: value for name, value in received.items() if value and sent.get(name) != value}
        came = f" {{{_fields(changed)}}}" if result >= 0 and changed else ""
        outcome = str(result) if result >= 0 else f"-1 {name_of(-result)} ({describe(-result)})"
        line = f"{operation.full_name}({_fields(sent)}) = {outcome}{came} <{seconds:.6f}>"
        print(line, file=stream or sys.stderr)

    return trace


class _Added(NamedTuple):
    """Calls of one operation: how many, how many of them failed, and how long they took."""

    calls: int
    errors: int
    seconds: float


class Summary:
    """A trace that adds up how often operations were called, and how long they took.

    Threads: one at a time.
    """

    def __init__(self) -> None:
        self._added: dict[str, _Added] = {}

    def __call__(self, operation: Operation, _: Fields, result: int, __: Fields, seconds: float) -> None:
        before = self._added.get(operation.full_name, _Added(0, 0, 0.0))
        added = _Added(before.calls + 1, before.errors + (result < 0), before.seconds + seconds)
        self._added[operation.full_name] = added

    def end(self) -> None:
        """Print a table, what took longest first, unless there was no call since the last one."""
        if self._added:
            print(*self._lines(), sep="\n", file=sys.stderr)

    def _lines(self) -> Iterator[str]:
        added, self._added = self._added, {}
        total = _Added(*map(sum, zip(*added.values())))
        yield f"{'% time':>6} {'seconds':>11} {'usecs/call':>11} {'calls':>9} {'errors':>9} operation"
        for name, one in sorted(added.items(), key=lambda item: -item[1].seconds):
            yield _line(one, total, f"{1e6 * one.seconds / one.calls:.0f}", name)
        yield _line(total, total, "", "total")


def _line(one: _Added, total: _Added, mean: str, name: str) -> str:
    share = 100 * one.seconds / (total.seconds or 1)
    return f"{share:6.2f} {one.seconds:11.6f} {mean:>11} {one.calls:9} {one.errors or '':>9} {name}"


def _fields(fields: Fields) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in fields.items())


def _value(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        shown = bytes(value[:_LONG]).hex()
        return f"<{len(value)} bytes {shown}{'...' if len(value) > _LONG else ''}>"
    if isinstance(value, int) and value > 0xFFFF:
        return hex(value)
    return str(value)
