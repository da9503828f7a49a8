# SPDX-License-Identifier: MIT
"""Prints each call, decoded, as strace prints system calls."""

from __future__ import annotations

import sys
from collections.abc import Mapping
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


def _fields(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in fields.items())


def _value(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        shown = bytes(value[:_LONG]).hex()
        return f"<{len(value)} bytes {shown}{'...' if len(value) > _LONG else ''}>"
    if isinstance(value, int) and value > 0xFFFF:
        return hex(value)
    return str(value)
