# SPDX-License-Identifier: MIT
"""Outgoing messages: each is sent whole and in order, even if the sender is interrupted."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from pyxc.errors import StoreError
from pyxc.store.channel import Channel

_ENDS = (errno.ENOTCONN, errno.ESHUTDOWN, errno.EBADF, errno.ENODEV, errno.ENXIO)
"""Errors that end a channel, besides ConnectionError. Linux's device has other errors for one request."""

_CHUNK = 1 << 18
"""How much is given to the kernel at once. No message to xenstore is as long."""


class Busy(Exception):
    """There was no time to send."""


class Sent(Protocol):
    """Something to send; the outbox records whether any byte of it may have been sent."""

    sent: bool


class _Several:
    """Messages that are sent as one."""

    def __init__(self, items: Sequence[Sent]) -> None:
        self._items = items

    @property
    def sent(self) -> bool:
        return all(item.sent for item in self._items)

    @sent.setter
    def sent(self, sent: bool) -> None:
        for item in self._items:
            item.sent = sent


class Outbox:
    """Sends over a channel. The rest of an unfinished message is sent before the next message."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._takes_several: bool = getattr(channel, "takes_several", False)
        self._lock = threading.RLock()
        self._rest = bytearray()
        self._taken: deque[int] = deque()

    def send(self, messages: Sequence[tuple[Sent, bytes]], deadline: float) -> None:
        """Send messages until `deadline`, a time.monotonic(). Busy; StoreError for a refused one.

        Linux's device takes one message at a time; to a socket all are sent as one. OSError for the end of
        the channel.
        """
        if self._takes_several and len(messages) > 1:
            items = _Several([item for item, _ in messages])
            messages = [(items, b"".join([data for _, data in messages]))]
        try:
            if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise Busy
            self._flush(deadline)
            for item, data in messages:
                self._send(item, data, deadline)
        finally:
            # A handler may raise right after the lock is taken: only the lock itself knows its owner.
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
        """Never send a message of which no byte has been sent."""
        self._settle()
        if len(self._rest) == len(data):
            self._rest.clear()
            item.sent = False

    def _flush(self, deadline: float) -> None:
        self._settle()
        while self._rest:
            try:
                # One step of C, as in Parser.read(): the result is not lost even if a handler raises here.
                self._taken.extend(map(self._channel.send, (bytes(self._rest[:_CHUNK]),)))
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
