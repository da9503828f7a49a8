# SPDX-License-Identifier: MIT
"""Channels to a simulated xenstored that behave like real ones: they reply late, refuse, renumber."""

from __future__ import annotations

import errno
import os
import select
import struct

from pyxc.store import Channel
from pyxc.store.wire import Kind, Parser

_MESSAGE_MOST = 4096
_HEADER = struct.Struct("=IIII")


class WrappedChannel:
    """A channel behind another one."""

    def __init__(self, inner: Channel) -> None:
        self.inner = inner
        self.fileno = inner.fileno
        self.close = inner.close

    def send(self, data: bytes) -> int:
        return self.inner.send(data)

    def receive(self) -> bytes:
        return self.inner.receive()


class HeldChannel(WrappedChannel):
    """A busy xenstored: its replies are held back, and if `deaf` it accepts nothing either."""

    def __init__(self, inner: Channel) -> None:
        super().__init__(inner)
        self._epoll = select.epoll()
        self._epoll.register(inner.fileno(), select.EPOLLIN)
        self.fileno = self._epoll.fileno
        self.close = self._close
        self.held = self.deaf = False

    def hold(self) -> None:
        if not self.held:
            self._epoll.unregister(self.inner.fileno())
        self.held = True

    def release(self) -> None:
        if self.held:
            self._epoll.register(self.inner.fileno(), select.EPOLLIN)
        self.held = self.deaf = False

    def send(self, data: bytes) -> int:
        if self.deaf:
            raise BlockingIOError
        return super().send(data)

    def receive(self) -> bytes:
        if self.held:
            raise BlockingIOError
        return super().receive()

    def _close(self) -> None:
        self._epoll.close()
        self.inner.close()


class DeviceLike(WrappedChannel):
    """Linux's xenbus device: a message has at most 4096 bytes, and write() raises the error of a request.

    A request that is written before the last one has its reply is spoiled.
    """

    one_request = True

    def __init__(self, inner: Channel, watches: int = 2) -> None:
        super().__init__(inner)
        self._watches = watches
        self._parser = Parser()
        self._unanswered = 0

    def send(self, data: bytes) -> int:
        if len(data) > _MESSAGE_MOST:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if _HEADER.unpack_from(data)[0] == Kind.WATCH:
            self._watches -= 1
            if self._watches < 0:
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        if self._unanswered:
            data = data[: _HEADER.size] + b"?" * (len(data) - _HEADER.size)
        self._unanswered += 1
        return super().send(data)

    def receive(self) -> bytes:
        messages = list(self._parser.feed(super().receive()))
        self._unanswered -= sum(message.kind != Kind.WATCH_EVENT for message in messages)
        return b"".join(message.encode() for message in messages)


class Renumbering(WrappedChannel):
    """The device of Linux 4.11 to 4.15, whose replies have their own request numbers, except for watches.

    `of_watches` is the number in replies about watches: 0 up to 4.10, where all others were correct.
    """

    def __init__(self, inner: Channel, renumber: bool = True, of_watches: int | None = None) -> None:
        super().__init__(inner)
        self._parser = Parser()
        self._renumber = renumber
        self._of_watches = of_watches
        self._last = 66_000

    def receive(self) -> bytes:
        messages = self._parser.feed(super().receive())
        return b"".join(
            message._replace(request=self._number(message.kind, message.request)).encode()
            for message in messages
        )

    def _number(self, kind: int, number: int) -> int:
        if kind in (Kind.WATCH, Kind.UNWATCH):
            return number if self._of_watches is None else self._of_watches
        if kind == Kind.WATCH_EVENT or not self._renumber:
            return number
        self._last += 1
        return self._last
