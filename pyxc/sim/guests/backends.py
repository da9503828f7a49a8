# SPDX-License-Identifier: MIT
"""The drivers of a simulated dom0's kernel that serve devices of guests: xen-blkback and xen-netback.

They take each step of the handshake in xenstore that the real ones take, and move no data.
"""

from __future__ import annotations

from pyxc.sim.xenstored import Xenstored
from pyxc.store.wire import Kind, Message, Parser, join, split

_KINDS = ("vbd", "vif")
_BACKEND = "/local/domain/0/backend"
_INITIALISING, _INIT_WAIT, _CONNECTED, _CLOSING, _CLOSED = "1", "2", "4", "5", "6"
_FRONT_READY = ("3", _CONNECTED)
_FRONT_GONE = (_CLOSED, None)


class Backends:
    """Both drivers. What they react to is carried out in the thread of whoever causes it."""

    def __init__(self, store: Xenstored) -> None:
        self._store = store
        self._parser = Parser()
        self._answers: list[Message] = []
        self._fronts: dict[str, str] = {}
        self._session = store.attach(0, self._receive, self._ended)
        for kind in _KINDS:
            self._ask(Kind.WATCH, join([f"{_BACKEND}/{kind}".encode(), kind.encode()]))

    def _ask(self, kind: Kind, payload: bytes) -> bytes | None:
        with self._store.lock:
            self._store.feed(self._session, Message(kind, 1, 0, payload).encode())
            answer = self._answers.pop()
        return None if answer.kind == Kind.ERROR else answer.payload

    def _read(self, path: str) -> str | None:
        answer = self._ask(Kind.READ, join([path.encode()]))
        return None if answer is None else answer.decode("latin-1")

    def _write(self, path: str, value: str) -> None:
        if self._read(path) != value:
            self._ask(Kind.WRITE, join([path.encode()]) + value.encode())

    def _ended(self) -> None:
        """The drivers stay until the host ends."""

    def _receive(self, data: bytes) -> None:
        for message in self._parser.feed(data):
            if message.kind != Kind.WATCH_EVENT:
                self._answers.append(message)
                continue
            path, token = split(message.payload)
            if token in self._fronts.values():
                self._look(token)
            else:
                parts = path.removeprefix(f"{_BACKEND}/").split("/")
                if len(parts) >= 3 and parts[0] in _KINDS:
                    self._look("/".join([_BACKEND, *parts[:3]]))

    def _look(self, back: str) -> None:
        """One step of one device, as far as both ends are."""
        state, front = self._read(f"{back}/state"), self._read(f"{back}/frontend")
        if state is None or front is None:
            return
        if front not in self._fronts:
            self._fronts[front] = back
            self._ask(Kind.WATCH, join([f"{front}/state".encode(), back.encode()]))
        theirs = self._read(f"{front}/state")
        kind = back.removeprefix(f"{_BACKEND}/").partition("/")[0]
        given = self._read(f"{back}/{'physical-device' if kind == 'vbd' else 'mac'}")
        if state == _INITIALISING and given:
            self._write(f"{back}/state", _INIT_WAIT)
        elif state == _INIT_WAIT and theirs in _FRONT_READY:
            self._write(f"{back}/state", _CONNECTED)
        elif theirs in _FRONT_GONE or (state == _CLOSING and theirs == _INITIALISING):
            self._write(f"{back}/state", _CLOSED)
