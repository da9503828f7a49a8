# SPDX-License-Identifier: MIT
"""The protocol of pyxc memory-server: requests of fixed size and their replies. No I/O.

All numbers are little-endian. A request: operation u8, 0, vcpu s16 (-1: physical memory, -2: the same with
page tables of guest frames), size u32, address u64; a WRITE is followed by `size` bytes. A reply: status u8,
three 0, size u32, and as many bytes: what was asked for, or a message. The server begins with GREETING.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from pyxc import errors
from pyxc.debug.guest_memory import WITHOUT_XEN

GREETING = b"pyxcmem1"
MOST = 1 << 20
"""Bytes in one request or reply."""
_REQUEST = struct.Struct("<BxhIQ")
_REPLY = struct.Struct("<B3xI")

Receive = Callable[[int], bytes]
"""Returns exactly so many bytes. EOFError at the end of the connection."""


class Op(IntEnum):
    """What is asked for."""

    FACTS = 0
    READ = 1
    WRITE = 2
    REGISTERS = 3
    VMCOREINFO = 4
    REFRESH = 5


class Status(IntEnum):
    """How it went. NOT_MAPPED: the message begins with the address, in decimal digits."""

    OK = 0
    NOT_MAPPED = 1
    FAILED = 2


class Request(NamedTuple):
    """A request; `data` is what to write."""

    op: Op
    vcpu: int = 0
    address: int = 0
    size: int = 0
    data: bytes = b""

    def encode(self) -> bytes:
        return _REQUEST.pack(self.op, self.vcpu, self.size, self.address) + self.data

    @classmethod
    def decode(cls, receive: Receive) -> Request:
        """The next request of a client. DecodeError: it is not one."""
        op, vcpu, size, address = _REQUEST.unpack(receive(_REQUEST.size))
        if op not in list(Op) or size > MOST or vcpu < WITHOUT_XEN:
            raise errors.DecodeError(f"the client sent operation {op} for vcpu {vcpu} and {size} bytes")
        return cls(Op(op), vcpu, address, size, receive(size) if op == Op.WRITE else b"")


def reply(status: Status, data: bytes) -> bytes:
    return _REPLY.pack(status, len(data)) + data


def taken(receive: Receive) -> tuple[Status, bytes]:
    """The next reply of a server. DecodeError: it is not one."""
    status, size = _REPLY.unpack(receive(_REPLY.size))
    if status not in list(Status) or size > MOST:
        raise errors.DecodeError(f"the memory server sent status {status} with {size} bytes")
    return Status(status), receive(size)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def from_json(data: bytes) -> dict[str, Any]:
    """DecodeError for anything but an object."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise errors.DecodeError(f"the memory server sent malformed JSON: {error}") from error
    if not isinstance(found, dict):
        raise errors.DecodeError("the memory server sent JSON that is not an object")
    return found
