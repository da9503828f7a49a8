# SPDX-License-Identifier: MIT
"""A debugger that speaks GDB's remote protocol with a session in a thread."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

import pyxc
from pyxc.debug import GdbSession
from pyxc.debug.gdb_packets import Packets, packet

PATIENCE_S = 120
RIP = 16


class RemoteDebugger:
    """It detaches at the end of a `with` block by closing its connection. Threads: one at a time."""

    def __init__(self, domain: pyxc.Domain) -> None:
        self._end, other = socket.socketpair()
        self._end.settimeout(PATIENCE_S)
        self._packets = Packets()
        self._got: list[bytes] = []
        self._errors: list[BaseException] = []

        def serve() -> None:
            with other:
                try:
                    GdbSession(domain, writable=True).serve(other)
                except BaseException as error:
                    self._errors.append(error)

        self._thread = threading.Thread(target=serve)
        self._thread.start()

    def ask(self, content: bytes) -> bytes:
        self._end.sendall(packet(content))
        while not self._got:
            data = self._end.recv(1 << 16)
            assert data, f"the session ended: {self._errors}"
            self._got += self._packets.feed(data)
        return self._got.pop(0)

    def rip(self) -> int:
        return int.from_bytes(bytes.fromhex(self.ask(b"g")[16 * RIP : 16 * RIP + 16].decode()), "little")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()
        self._thread.join(PATIENCE_S)
        assert self._errors == [], self._errors
