# SPDX-License-Identifier: MIT
"""A client's channel to a simulated xenstored in the same process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from pyxc.sim.xenstored.session import Session


class Attachable(Protocol):
    """What keeps sessions: the daemon, to a channel."""

    lock: AbstractContextManager[Any]

    def attach(self, domid: int, output: Callable[[bytes], None], ended: Callable[[], None]) -> Session:
        """A new session: bytes for its client go to `output`; `ended` when the daemon gives it up."""

    def feed(self, session: Session, data: bytes) -> None:
        """Bytes from a client."""

    def disconnect(self, session: Session) -> None:
        """The end of a session, from either side."""


class SimChannel:
    """Sent requests are carried out at once; replies wait to be received. Threads: safe to share."""

    takes_several = True

    def __init__(self, xenstored: Attachable, domid: int) -> None:
        self._xenstored = xenstored
        self._received = bytearray()
        self._ended = False
        self._closed = False
        self._ready = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._session = xenstored.attach(domid, self._put, self._end)

    def fileno(self) -> int:
        return self._ready

    def send(self, data: bytes) -> int:
        with self._xenstored.lock:
            if self._ended:
                raise BrokenPipeError
            self._xenstored.feed(self._session, data)
        return len(data)

    def receive(self) -> bytes:
        with self._xenstored.lock:
            if not self._received and not self._ended:
                raise BlockingIOError
            data = bytes(self._received)
            self._received.clear()
            if not self._ended:
                os.eventfd_read(self._ready)
            return data

    def _put(self, data: bytes) -> None:
        """xenstored has something for the client."""
        self._received += data
        os.eventfd_write(self._ready, 1)

    def _end(self) -> None:
        """xenstored has dropped it. It remains readable, at its end."""
        self._ended = True
        if not self._closed:
            os.eventfd_write(self._ready, 1)

    def cut(self) -> None:
        """End it, while others may be using it: they find that nothing comes any more."""
        with self._xenstored.lock:
            if not self._closed:
                self._xenstored.disconnect(self._session)
                self._received.clear()

    def close(self) -> None:
        with self._xenstored.lock:
            if not self._closed:
                self._closed = True
                self._xenstored.disconnect(self._session)
                os.close(self._ready)
