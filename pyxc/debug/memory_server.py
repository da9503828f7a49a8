# SPDX-License-Identifier: MIT
"""Serves the memory and registers of one domain to a debugger, here or on another machine."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Protocol

from pyxc import errors
from pyxc.debug.guest_memory import DomainMemory
from pyxc.debug.memory_wire import GREETING, MOST, Op, Request, Status, as_json, reply


class Peer(Protocol):
    """A client: a socket, or what is like one."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> object: ...


class MemorySession:
    """Clients of a domain's memory, which they may change only if that was opened with `writable`.

    Whoever can connect can read all memory of the guest: there is no password. Threads: one for each
    client.
    """

    def __init__(self, memory: DomainMemory) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._closed = False

    def serve(self, peer: Peer) -> None:
        """Answer a client until it ends the connection. DecodeError for a malformed request."""
        with suppress(EOFError, ConnectionError):
            peer.sendall(GREETING)
            while True:
                request = Request.decode(lambda size: receive(peer, size))
                peer.sendall(self.answer(request))

    def close(self) -> None:
        """Close the memory, once no client is being answered; later requests fail."""
        with self._lock:
            self._memory.close()
            self._closed = True

    def answer(self, request: Request) -> bytes:
        try:
            with self._lock:
                return reply(Status.OK, self._result(request))
        except errors.NotMapped as error:
            return reply(Status.NOT_MAPPED, f"{error.address} {error.why}".encode())
        except (errors.Error, OSError, LookupError, ValueError) as error:
            return reply(Status.FAILED, str(error).encode()[:MOST])

    def _result(self, request: Request) -> bytes:
        if self._closed:
            raise ValueError("the server is about to end")
        memory = self._memory
        if request.op is Op.READ:
            return memory.read(request.vcpu, request.address, request.size)
        if request.op is Op.WRITE:
            memory.write(request.vcpu, request.address, request.data)
        elif request.op is Op.FACTS:
            return as_json(memory.facts._asdict())
        elif request.op is Op.REGISTERS:
            return as_json(memory.registers(request.vcpu))
        elif request.op is Op.VMCOREINFO:
            return memory.vmcoreinfo()
        else:
            memory.refresh()
        return b""


def receive(peer: Peer, size: int) -> bytes:
    """Exactly so many bytes. EOFError at the end of the connection."""
    found = bytearray()
    while len(found) < size:
        data = peer.recv(size - len(found))
        if not data:
            raise EOFError("the connection ended")
        found += data
    return bytes(found)
