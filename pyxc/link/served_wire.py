# SPDX-License-Identifier: MIT
"""How a program reaches a simulated host in another process. No I/O.

A connection begins with a line of the client that says what it is for, and a line of the server in JSON. A
link then has requests and replies in the frames of the xenstore protocol: a line of JSON, and bytes.
"""

from __future__ import annotations

import errno
import json
from typing import Any

from pyxc.errors import NotXenError, StoreError

PAYLOAD_MOST = 1 << 25
"""The most bytes of a request or a reply: lists of four million frames."""
LINE_MOST = 4096
LINK, STORE, EVENTS = "link", "store", "events"
"""What connections are for. The first link to a host has no token; the server gives it one."""
SEALS_NEEDED = 0x0002 | 0x0004
"""F_SEAL_SHRINK and F_SEAL_GROW: memory that others can cut short would kill those who map it."""

_FAILURES: dict[str, type[OSError]] = {kind.__name__: kind for kind in (NotXenError, StoreError, OSError)}


def packed(head: dict[str, Any], body: bytes | bytearray = b"") -> bytes:
    """A payload. OSError E2BIG if it is too long."""
    payload = json.dumps(head, separators=(",", ":")).encode() + b"\n" + body
    if len(payload) > PAYLOAD_MOST:
        raise OSError(errno.E2BIG, f"{len(payload)} bytes do not fit into one message to a simulated host")
    return payload


def unpacked(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON and the bytes of a payload. ValueError if it is malformed."""
    line, newline, body = payload.partition(b"\n")
    return line_of(line + newline), body


def line_of(line: bytes) -> dict[str, Any]:
    """A line of JSON. ValueError if it is malformed."""
    try:
        head = json.loads(line) if line.endswith(b"\n") else None
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    if not isinstance(head, dict):
        raise ValueError(f"not a message of a simulated host: {line[:40]!r}")
    return head


def failure(error: Exception) -> dict[str, Any]:
    """An exception of the link as JSON."""
    if isinstance(error, OSError):
        kind = type(error).__name__ if type(error).__name__ in _FAILURES else "OSError"
        return {"error": kind, "errno": error.errno or errno.EIO, "text": error.strerror or str(error)}
    return {"error": "ValueError", "text": str(error)}


def raised(head: dict[str, Any]) -> Exception:
    """The exception that failure() made JSON of."""
    text = str(head.get("text"))
    kind = _FAILURES.get(str(head["error"]))
    return ValueError(text) if kind is None else kind(whole(head.get("errno")), text)


def whole(value: Any, least: int = 0, most: int = 2**64 - 1) -> int:
    """A number of a message. ValueError if it is none, or out of range."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{value!r:.40} is not a number from {least} to {most}")
    return value
