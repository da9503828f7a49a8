# SPDX-License-Identifier: MIT
"""One connection to xenstored: requests and their answers, and events to those who watch.

It has no thread of its own: of those that wait, for whatever, one reads for all.
"""

from __future__ import annotations

import errno
import itertools
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from pyxc._core import fork_count
from pyxc.errors import StoreError
from pyxc.store.channel import Channel
from pyxc.store.wire import Kind, Message, Parser, split

_NUMBER_MASK = 2**32 - 1
_POLL_MOST_S = 86_400.0
_SILENCE = "nothing answers on xenstore: is xenstored running?"
_CLOSED = "xenstored closed the connection"


class Sink(Protocol):
    """Where the events of a token go. Called with the connection's lock held."""

    def put(self, path: str, token: str) -> None:
        """Something happened."""

    def end(self) -> None:
        """Nothing will come any more."""


class Connection:
    """Requests, answers and events over a channel. Threads: used by many. After a fork it refuses to work.

    `answered` says whether there is anybody at the other end.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.answered = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._sending = threading.Lock()
        self._parser = Parser()
        self._answers: dict[int, Message | None] = {}
        self._sinks: dict[str, Sink] = {}
        self._numbers = itertools.count(1)
        self._tokens = itertools.count(1)
        self._reading = False
        self._closed = False
        self._failure: StoreError | None = None
        self._forks = fork_count()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._release = weakref.finalize(self, _release, channel, self._wake)

    def request(self, kind: Kind, payload: bytes, transaction: int, timeout: float) -> Message:
        """One request and its answer. StoreError: ETIMEDOUT, ECONNRESET, EPROTO."""
        deadline = time.monotonic() + timeout
        with self.locked():
            self.check()
            number = next(self._numbers) & _NUMBER_MASK
            self._answers[number] = None
        try:
            self._send(Message(kind, number, transaction, payload).encode(), deadline)
            if not self.wait(lambda: self._answers[number] is not None, deadline):
                raise StoreError(errno.ETIMEDOUT, _SILENCE)
        finally:
            with self._lock:
                answer = self._answers.pop(number)
        assert answer is not None
        return answer

    def new_token(self) -> str:
        """One that no event of this connection has had."""
        return str(next(self._tokens))

    def subscribe(self, token: str, sink: Sink) -> None:
        """Events with a token go to a sink from now on; called with the lock held."""
        self._sinks[token] = sink

    def unsubscribe(self, token: str) -> None:
        """Events with it that are still under way go nowhere; called with the lock held."""
        self._sinks.pop(token, None)

    def wait(self, ready: Callable[[], bool], deadline: float | None) -> bool:
        """Read messages, or let another thread read them, until `ready`, which is called with the lock held.

        False when `deadline`, a time.monotonic() or None for never, has passed.
        """
        with self.locked():
            left = None
            while not ready():
                self.check()
                if left == 0:
                    return False
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if self._reading:
                    self._changed.wait(left)
                else:
                    self._read(left)
            return True

    def wake(self) -> None:
        """Let all who wait look again, the one who reads too; called with the lock held."""
        if self._reading:
            os.eventfd_write(self._wake, 1)
        self._changed.notify_all()

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the one that opened it."""
        return fork_count() != self._forks

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The lock. RuntimeError after a fork, when nobody may be left to give it back."""
        if self.forked:
            raise RuntimeError("this xenstore client was opened before a fork: open another one in the child")
        with self._lock:
            yield

    def check(self) -> None:
        """Refuse what cannot work any more: StoreError, ValueError (closed); called with the lock held."""
        if self._closed:
            raise ValueError("this xenstore client is closed")
        if self._failure is not None:
            raise StoreError(*self._failure.args)

    def _read(self, left: float | None) -> None:
        """Wait for bytes without the lock, then hand out what they are."""
        self._reading = True
        try:
            self._lock.release()
            try:
                data = self._receive(left)
            finally:
                self._lock.acquire()
            if data is not None:
                self._take(data)
        except OSError as error:
            self._fail(error)
        finally:
            self._reading = False
            self._changed.notify_all()

    def _receive(self, left: float | None) -> bytes | None:
        """Bytes, b"" at the end, None when there is nothing in that time."""
        for descriptor, _ in self._poll.poll(None if left is None else min(left, _POLL_MOST_S) * 1000):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
        try:
            return self.channel.receive()
        except BlockingIOError:
            return None

    def _take(self, data: bytes) -> None:
        if not data:
            raise StoreError(errno.ECONNRESET, _CLOSED)
        for message in self._parser.feed(data):
            self.answered = True
            if message.kind == Kind.WATCH_EVENT:
                self._deliver(message.payload)
            elif message.request in self._answers:
                self._answers[message.request] = message

    def _deliver(self, payload: bytes) -> None:
        strings = split(payload)
        if len(strings) < 2:
            raise StoreError(errno.EPROTO, "an event without path and token")
        path, token = strings[:2]
        sink = self._sinks.get(token)
        if sink is not None:
            sink.put(path, token)

    def _fail(self, error: OSError) -> StoreError:
        """The end: whoever waits, and whoever asks from now on, gets this error, or the first one."""
        if self._failure is None:
            self._failure = error if isinstance(error, StoreError) else StoreError(errno.ECONNRESET, _CLOSED)
        return self._failure

    def _send(self, data: bytes, deadline: float) -> None:
        if not self._sending.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise StoreError(errno.ETIMEDOUT, _SILENCE)
        rest = data
        try:
            while rest:
                rest = rest[self._send_some(rest, deadline) :]
        except StoreError:
            raise
        except OSError as error:
            with self._lock:
                raise self._fail(error) from error
        finally:
            if 0 < len(rest) < len(data):
                with self._lock:
                    self._fail(StoreError(errno.ECONNRESET, "a request was sent in part only"))
            self._sending.release()

    def _send_some(self, data: bytes, deadline: float) -> int:
        try:
            return self.channel.send(data)
        except BlockingIOError:
            room = select.poll()
            room.register(self.channel.fileno(), select.POLLOUT)
            if not room.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise StoreError(errno.ETIMEDOUT, _SILENCE) from None
            return 0

    def close(self) -> None:
        """Wake whoever waits, then close. After a fork only what this process has of it."""
        if not self.forked:
            with self._lock:
                self._closed = True
                self.wake()
                while self._reading:
                    self._changed.wait()
                for sink in self._sinks.values():
                    sink.end()
                self._sinks.clear()
        self._release()


def _release(channel: Channel, wake: int) -> None:
    channel.close()
    os.close(wake)
