# SPDX-License-Identifier: MIT
"""Prints each call, decoded, as strace prints system calls, or adds them up, as strace -c does."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from pyxc.abi.errno import describe, name_of
from pyxc.abi.operation import Operation
from pyxc.call.reply import Trace

_LONG = 32


def printer(stream: TextIO | None = None) -> Trace:
    """A trace that writes one line a call: operation(what went in) = result {what came out} <seconds>."""

    def trace(
        operation: Operation,
        sent: Mapping[str, Any],
        result: int,
        received: Mapping[str, Any],
        seconds: float,
    ) -> None:
        changed = {name: value for name, value in received.items() if value and sent.get(name) != value}
        came = f" {{{_fields(changed)}}}" if result >= 0 and changed else ""
        outcome = str(result) if result >= 0 else f"-1 {name_of(-result)} ({describe(-result)})"
        line = f"{operation.full_name}({_fields(sent)}) = {outcome}{came} <{seconds:.6f}>"
        print(line, file=stream or sys.stderr)

    return trace


class Summary:
    """A trace that adds up how often operations were called, and how long they took.

    Threads: one at a time.
    """

    def __init__(self) -> None:
        self._calls: dict[str, list[float]] = {}
        self._errors: Counter[str] = Counter()

    def __call__(
        self,
        operation: Operation,
        sent: Mapping[str, Any],
        result: int,
        received: Mapping[str, Any],
        seconds: float,
    ) -> None:
        self._calls.setdefault(operation.full_name, []).append(seconds)
        self._errors[operation.full_name] += result < 0

    def end(self) -> None:
        """Print a table, what took longest first, unless there was no call since the last one."""
        if self._calls:
            print(*self._lines(), sep="\n", file=sys.stderr)

    def _lines(self) -> Iterator[str]:
        calls, self._calls = self._calls, {}
        errors, self._errors = self._errors, Counter()
        total = sum(map(sum, calls.values()))
        yield f"{'% time':>6} {'seconds':>11} {'usecs/call':>11} {'calls':>9} {'errors':>9} operation"
        for name, took in sorted(calls.items(), key=lambda item: -sum(item[1])):
            share, mean = 100 * sum(took) / (total or 1), 1e6 * sum(took) / len(took)
            yield f"{share:6.2f} {sum(took):11.6f} {mean:11.0f} {len(took):9} {errors[name] or '':>9} {name}"
        number = sum(map(len, calls.values()))
        yield f"{100:6.2f} {total:11.6f} {'':11} {number:9} {sum(errors.values()) or '':>9} total"


def _fields(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in fields.items())


def _value(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        shown = bytes(value[:_LONG]).hex()
        return f"<{len(value)} bytes {shown}{'...' if len(value) > _LONG else ''}>"
    if isinstance(value, int) and value > 0xFFFF:
        return hex(value)
    return str(value)
