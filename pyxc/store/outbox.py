# SPDX-License-Identifier: MIT
"""Messages on their way out: each goes whole, in order, also when whoever sends is interrupted."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections import deque
from typing import Protocol

from pyxc.errors import StoreError
from pyxc.store.channel import Channel

_ENDS = (errno.ENOTCONN, errno.ESHUTDOWN, errno.EBADF, errno.ENODEV, errno.ENXIO)
"""Beside a ConnectionError, what ends a channel. Linux's device refuses a single request by other errnos."""


class Busy(Exception):
    """There was no time to send."""


class Sent(Protocol):
    """Something that is sent; the outbox notes whether any byte of it may have gone out."""

    sent: bool


class Outbox:
    """Sends over a channel. What was begun and could not be finished goes before the next message."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.RLock()
        self._rest = bytearray()
        self._taken: deque[int] = deque()

    def send(self, item: Sent, data: bytes, deadline: float) -> None:
        """Send one message until `deadline`, a time.monotonic(). Busy; StoreError for one that is refused.

        OSError for the end of the channel.
        """
        try:
            if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise Busy
            self._flush(deadline)
            self._send(item, data, deadline)
        finally:
            # A handler may raise when the lock is just taken: only the lock itself knows whose it is.
            try:  # noqa: SIM105  # calling suppress() would be one more moment for a handler
                self._lock.release()
            except RuntimeError:
                pass

    def _send(self, item: Sent, data: bytes, deadline: float) -> None:
        try:
            item.sent = True
            self._rest += data
            self._flush(deadline)
        except OSError as error:
            self._forget_unsent(item, data)
            if item.sent or error.errno in _ENDS or isinstance(error, ConnectionError):
                raise
            number = error.errno or errno.EIO
            name = errno.errorcode.get(number, str(number))
            raise StoreError(number, f"{name}, {os.strerror(number)}") from error
        except BaseException:
            self._forget_unsent(item, data)
            raise

    def _forget_unsent(self, item: Sent, data: bytes) -> None:
        """A message of which no byte has gone out never goes."""
        self._settle()
        if len(self._rest) == len(data):
            self._rest.clear()
            item.sent = False

    def _flush(self, deadline: float) -> None:
        self._settle()
        while self._rest:
            try:
                # One step of C, as in Parser.read(): what was taken is known even if a handler raises here.
                self._taken.extend(map(self._channel.send, (bytes(self._rest),)))
            except BlockingIOError:
                self._wait(deadline)
            self._settle()

    def _settle(self) -> None:
        while self._taken:
            del self._rest[: self._taken[0]], self._taken[0]

    def _wait(self, deadline: float) -> None:
        space = select.poll()
        space.register(self._channel.fileno(), select.POLLOUT)
        if not space.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise Busy
