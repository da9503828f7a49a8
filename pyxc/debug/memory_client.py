# SPDX-License-Identifier: MIT
"""A client of pyxc memory-server: the guest may be on another host, and this needs no Xen."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self

from pyxc import errors
from pyxc.debug.guest_memory import GuestFacts
from pyxc.debug.memory_server import receive
from pyxc.debug.memory_wire import GREETING, MOST, Op, Request, Status, from_json, taken

SERVED = ("unix:", "tcp:")
"""How the place of a memory server begins, where a guest of this host would have its name."""
_KINDS = {"domid": int, "uuid": str, "is_hvm": bool, "physical_bytes": int, "nr_vcpus": int}


class RemoteMemory:
    """The guest of a memory server, like DomainMemory. Threads: one at a time.

    NotMapped and DecodeError as there; other errors of the server are an OSError with its message.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        if self._receive(len(GREETING)) != GREETING:
            raise errors.DecodeError("this is not a memory server of pyxc, or one of another version")
        found = from_json(self._ask(Request(Op.FACTS)))
        if any(type(found.get(name)) is not kind for name, kind in _KINDS.items()):
            raise errors.DecodeError(f"the memory server describes its guest as {found!r}")
        self.facts = GuestFacts(*(found[name] for name in GuestFacts._fields))

    def read(self, vcpu: int, address: int, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            some = min(MOST, size - len(found))
            data = self._ask(Request(Op.READ, vcpu, address + len(found), some))
            if len(data) != some:
                raise errors.DecodeError(f"the memory server sent {len(data)} bytes instead of {some}")
            found += data
        return bytes(found)

    def write(self, vcpu: int, address: int, data: bytes) -> None:
        """OSError unless the server was started with --writable."""
        for start in range(0, len(data), MOST):
            piece = data[start : start + MOST]
            self._ask(Request(Op.WRITE, vcpu, address + start, len(piece), piece))

    def registers(self, vcpu: int) -> dict[str, int]:
        found = from_json(self._ask(Request(Op.REGISTERS, vcpu)))
        if not all(type(value) is int for value in found.values()):
            raise errors.DecodeError("the memory server sent a register that is not a number")
        return found

    def vmcoreinfo(self) -> bytes:
        return self._ask(Request(Op.VMCOREINFO))

    def refresh(self) -> None:
        self._ask(Request(Op.REFRESH))

    def _ask(self, request: Request) -> bytes:
        self._connection.sendall(request.encode())
        status, data = taken(self._receive)
        if status is Status.OK:
            return data
        text = data.decode("utf-8", "replace")
        if status is Status.NOT_MAPPED:
            address, _, why = text.partition(" ")
            if address.isdecimal() and len(address) <= 20:
                raise errors.NotMapped(int(address), why)
        raise OSError(f"the memory server refused: {text}")

    def _receive(self, size: int) -> bytes:
        return receive(self._connection, size)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect_memory(where: str, *, timeout: float = 30) -> RemoteMemory:
    """Connect to a memory server: "unix:PATH" or "tcp:HOST:PORT". OSError; DecodeError if it is another one.

    `timeout` is in seconds, for each reply.
    """
    kind, _, place = where.partition(":")
    if kind == "unix" and place:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address: str | tuple[str, int] = place
    else:
        host, _, port = place.rpartition(":")
        if kind != "tcp" or not host or not (port.isdecimal() and int(port) < 65536):
            raise ValueError(f"{where!r} is not a memory server: expected unix:PATH or tcp:HOST:PORT")
        connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        address = (host.strip("[]"), int(port))
    try:
        connection.settimeout(timeout)
        _connect(connection, address, where)
        return RemoteMemory(connection)
    except BaseException:
        connection.close()
        raise


def _connect(connection: socket.socket, address: str | tuple[str, int], where: str) -> None:
    try:
        connection.connect(address)
    except OSError as error:
        # The error of a socket does not say whom it was to reach.
        error.filename = where
        raise
