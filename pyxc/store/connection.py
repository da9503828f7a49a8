# SPDX-License-Identifier: MIT
"""One connection to xenstored: requests and replies, and events for watches.

It starts no thread: one of the waiting threads reads for all.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from pyxc._core import fork_count
from pyxc.errors import StoreError
from pyxc.store.channel import Channel
from pyxc.store.outbox import Busy, Outbox
from pyxc.store.wire import PAYLOAD_MOST, Kind, Message, Parser, encoded, split

_NUMBER_MASK = 2**32 - 1
_HALF = 2**31
_POLL_MOST_S = 86_400.0
_UNANSWERED_MOST = 1024
"""The most requests without a reply; more are not sent. Over Linux's device one, see DeviceChannel."""
_TOGETHER = 32
"""The most requests that are sent before their replies are read. All of them fit in the buffer of a socket:
a xenstored that does nothing until its replies are read does not block their sender."""
_CLOSED = "xenstored closed the connection"
_ANSWERED_BY_THE_KERNEL = (Kind.WATCH, Kind.UNWATCH)


class Sink(Protocol):
    """The receiver of a token's events. Called with the connection's lock held."""

    def put(self, path: str, token: str) -> None:
        """Something happened."""

    def end(self) -> None:
        """There will be no more events."""


class Reentered(RuntimeError):
    """A signal handler uses a connection that the interrupted code is using."""

    def __init__(self) -> None:
        super().__init__(
            "this signal handler interrupted a request on the same xenstore connection: it cannot use"
            " that connection's transactions and watches"
        )


class Request:
    """A request and, when it has arrived, its reply.

    `undo` turns a successful reply into the request that undoes its effect; that is sent if the reply arrives
    after the request was abandoned.
    """

    def __init__(
        self,
        kind: Kind,
        payload: bytes,
        transaction: int = 0,
        undo: Callable[[Message], Request | None] | None = None,
    ) -> None:
        self.kind = kind
        self.payload = payload
        self.transaction = transaction
        self.undo = undo
        self.number = 0
        self.answer: Message | None = None
        self.sent = False
        """Whether any byte of it may have been sent."""
        self.abandoned = False

    def taken_back(self) -> Request | None:
        """The request that undoes its effect, once."""
        undo, self.undo = self.undo, None
        return undo(self.answer) if undo is not None and self.answer is not None else None

    def encode(self) -> bytes:
        return encoded(self.kind, self.number, self.transaction, self.payload)


class _Guard(threading.local):
    """A lock for each thread that says whether it is using the connection."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Connection:
    """Requests, replies and events over a channel. Threads: safe to share; in a child after fork it refuses.

    `answered` says whether there was ever a reply. A signal handler must not use it while the interrupted
    code does: that raises Reentered.
    """

    def __init__(self, channel: Channel, payload_most: int = PAYLOAD_MOST) -> None:
        self.channel = channel
        self.answered = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._guard = _Guard()
        self._when_left: deque[Callable[[], None]] = deque()
        self._parser = Parser(payload_most)
        self._outbox = Outbox(channel)
        alone: bool = getattr(channel, "one_request", False)
        self._unanswered_most = 1 if alone else _UNANSWERED_MOST
        self._together = 1 if alone else _TOGETHER
        self._waiting: dict[int, Request] = {}
        self._leftovers: deque[Callable[[], Request | None]] = deque()
        self._sinks: dict[str, weakref.ref[Sink]] = {}
        self._last_number = 0
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

    # Entering and leaving.

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the one that opened it."""
        return fork_count() != self._forks

    @property
    def ended(self) -> bool:
        """Whether it has failed: nothing is received or sent any more."""
        return self._failure is not None

    @property
    def interrupted(self) -> bool:
        """Whether this code runs in a signal handler that interrupted a use of it."""
        return self._guard.lock.locked()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Use it. RuntimeError after a fork, when a lock may never be released; Reentered."""
        if self.forked:
            raise RuntimeError("this xenstore client was opened before a fork: open a new one in the child")
        if self.interrupted:
            raise Reentered
        try:
            with self._guard.lock:
                yield
        finally:
            while self._when_left:
                self._when_left.popleft()()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Use it under the lock."""
        with self.entered(), self._lock:
            yield

    def when_left(self, action: Callable[[], None]) -> None:
        """For a signal handler: end the interrupted wait, and then do something."""
        self._when_left.append(action)
        os.eventfd_write(self._wake, 1)

    def check(self) -> None:
        """StoreError if it has ended, ValueError if it is closed; with the lock held."""
        if self._failure is not None:
            raise StoreError(*self._failure.args)
        if self._closed:
            raise ValueError("this xenstore client is closed")

    # Requests.

    def ask(self, request: Request, timeout: float) -> Message:
        """Send a request and wait for its reply. StoreError: ETIMEDOUT, ECONNRESET, EPROTO, a refusal.

        After any exception, also of a signal handler, the request is abandoned.
        """
        (answer,) = self.ask_all((request,), timeout)
        return answer

    def ask_all(self, requests: Sequence[Request], timeout: float) -> list[Message]:
        """The same for many requests: a few are sent, then their replies are read, within `timeout`."""
        for first in range(0, len(requests), self._together):
            self._exchange(requests[first : first + self._together], timeout)
        return [request.answer for request in requests if request.answer is not None]

    def _exchange(self, requests: Sequence[Request], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        with self.entered():
            try:
                self._enlist(requests, deadline)
                self._send(requests, deadline)
                if not self._until(lambda: _answered(requests), deadline):
                    raise Busy
            except BaseException as error:
                self._give_up(requests)
                if isinstance(error, Busy):
                    raise StoreError(errno.ETIMEDOUT, self._silence(timeout)) from None
                raise

    def abandon(self, request: Request) -> None:
        """Drop the reply and undo the effect. Takes no lock: a finalizer may call it."""
        request.abandoned = True
        if request.answer is not None:
            self._leftovers.append(request.taken_back)

    def send_later(self, request: Request) -> None:
        """Send a request as soon as possible, and drop its reply. Takes no lock."""
        self._leftovers.append(partial(_itself, request))

    def tidy(self) -> None:
        """Send the undo of abandoned requests, now or as soon as possible."""
        with contextlib.suppress(RuntimeError), self.locked():
            self._send_leftovers()

    def _silence(self, timeout: float) -> str:
        if self.answered:
            return f"xenstored did not reply within {timeout:g} s"
        return "nothing replies on xenstore: is xenstored running?"

    def _enlist(self, requests: Sequence[Request], deadline: float) -> None:
        """Give them numbers. Busy if too many requests have no reply yet."""
        while self._until(lambda: self._may_send(len(requests)), deadline):
            with self._lock:
                self.check()
                self._send_leftovers()
                if self._may_send(len(requests)):
                    for request in requests:
                        self._number(request)
                    return
        raise Busy

    def _may_send(self, count: int) -> bool:
        return len(self._waiting) + count <= self._unanswered_most

    def _number(self, request: Request) -> None:
        request.number = self._last_number = (self._last_number + 1) & _NUMBER_MASK or 1
        self._waiting[request.number] = request

    def _send(self, requests: Sequence[Request], deadline: float) -> None:
        try:
            self._outbox.send([(request, request.encode()) for request in requests], deadline)
        except StoreError:
            raise
        except OSError as error:
            with self._lock:
                raise self._fail(error) from error

    def _give_up(self, requests: Sequence[Request]) -> None:
        """Abandon requests; those that were sent may still get a reply."""
        with self._lock:
            for request in requests:
                if not request.sent:
                    self._waiting.pop(request.number, None)
                else:
                    self.abandon(request)
            self._send_leftovers()

    def _send_leftovers(self) -> None:
        """Send the undo of abandoned requests without waiting; with the lock held."""
        while self._leftovers and self._failure is None and not self._closed:
            request = self._leftovers[0]()
            if request is not None and not self._send_at_once(request):
                self._leftovers[0] = partial(_itself, request)
                return
            self._leftovers.popleft()

    def _send_at_once(self, request: Request) -> bool:
        """Send a request without waiting for its reply; False if that is impossible now."""
        if not self._may_send(1):
            return False
        request.abandoned = True
        self._number(request)
        try:
            self._outbox.send([(request, request.encode())], 0)
        except Busy:
            pass
        except StoreError:
            del self._waiting[request.number]
            return True
        except OSError as error:
            self._fail(error)
        if not request.sent:
            del self._waiting[request.number]
        return request.sent

    # Waiting and reading.

    def wait(self, ready: Callable[[], bool], deadline: float | None) -> bool:
        """Read messages, or let another thread read them, until `ready`, which is called with the lock held.

        False when `deadline`, a time.monotonic() or None for never, has passed.
        """
        with self.entered():
            return self._until(ready, deadline)

    def _until(self, ready: Callable[[], bool], deadline: float | None) -> bool:
        left = None
        while True:
            reads = False
            try:
                with self._lock:
                    if ready():
                        return True
                    self.check()
                    if left == 0:
                        return False
                    left = None if deadline is None else max(0.0, deadline - time.monotonic())
                    if self._reading:
                        self._changed.wait(left)
                    else:
                        self._reading = reads = True
                if reads:
                    self._receive(left)
            finally:
                if reads:
                    self._reading = False
                    self._hand_out()

    def settled(self) -> bool:
        """Whether no request waits for its reply, after reading received data; also if it has ended."""
        try:
            return self.wait(lambda: not self._waiting, time.monotonic())
        except (StoreError, ValueError):
            return True

    def wake(self) -> None:
        """Let all waiting threads check again, including the reader; called with the lock held."""
        if self._reading:
            os.eventfd_write(self._wake, 1)
        self._changed.notify_all()

    def _receive(self, left: float | None) -> None:
        """Receive bytes, if there are any in time."""
        try:
            for descriptor, _ in self._poll.poll(None if left is None else min(left, _POLL_MOST_S) * 1000):
                if descriptor == self._wake:
                    os.eventfd_read(self._wake)
            self._parser.read(self.channel.receive)
        except BlockingIOError:
            pass
        except OSError as error:
            with self._lock:
                self._fail(error)

    def _hand_out(self) -> None:
        """Deliver received messages."""
        with self._lock:
            try:
                self._take()
            except StoreError as error:
                self._fail(error)
            finally:
                self._changed.notify_all()

    def _take(self) -> None:
        for message in self._parser.messages():
            self.answered = True
            if message.kind == Kind.WATCH_EVENT:
                self._deliver(message.payload)
            else:
                self._settle(message)
        self._send_leftovers()

    def _settle(self, message: Message) -> None:
        """Deliver a reply to its request, if there is one."""
        number = self._asked(message)
        if number is not None:
            request = self._waiting[number]
            request.answer = message
            del self._waiting[number]
            if request.abandoned:
                self._leftovers.append(request.taken_back)

    def _asked(self, message: Message) -> int | None:
        """The number of the request that a reply is for; None for an unexpected one.

        Older Linux devices changed the numbers: from 4.11 to 4.15 replies have the device's own numbers,
        which are higher than ours, and up to 4.10 it replied to requests about watches itself, with the
        number 0. The order of replies is that of requests.
        """
        number = message.request
        if number in self._waiting:
            return number
        issued = number and (self._last_number - number) & _NUMBER_MASK < _HALF
        if issued:
            return None
        for candidate, request in self._waiting.items():
            about_watches = request.kind in _ANSWERED_BY_THE_KERNEL
            if about_watches == (number == 0) and message.kind in (request.kind, Kind.ERROR):
                return candidate
        return None

    def _deliver(self, payload: bytes) -> None:
        strings = split(payload)
        if len(strings) < 2:
            raise StoreError(errno.EPROTO, "an event without path and token")
        path, token = strings[:2]
        known = self._sinks.get(token)
        sink = None if known is None else known()
        if sink is not None:
            sink.put(path, token)

    def _fail(self, error: OSError) -> StoreError:
        """End the connection: all waiting and later requests get this error, or the first one."""
        if self._failure is None:
            self._failure = error if isinstance(error, StoreError) else StoreError(errno.ECONNRESET, _CLOSED)
        return self._failure

    # Events.

    def new_token(self) -> str:
        """A token that this connection has never used."""
        return str(next(self._tokens))

    def subscribe(self, token: str, sink: Sink) -> None:
        """Deliver events of a token to a sink, as long as it exists; called with the lock held."""
        self._sinks[token] = weakref.ref(sink)

    def unsubscribe(self, token: str) -> None:
        """Drop further events of a token. Takes no lock: a finalizer may call it."""
        self._sinks.pop(token, None)

    # The end.

    def close(self) -> None:
        """Wake all waiting threads, then close. After a fork close only this process's descriptor.

        From a signal handler that interrupted a use of it, close it as soon as that use has ended.
        """
        if self.forked:
            self._release()
            return
        if self.interrupted:
            self._closed = True
            self.when_left(self.close)
            return
        with self.entered():
            with self._lock:
                self._closed = True
                self.wake()
                while self._reading:
                    self._changed.wait()
                for known in list(self._sinks.values()):
                    sink = known()
                    if sink is not None:
                        sink.end()
                self._sinks.clear()
            self._release()


def _answered(requests: Sequence[Request]) -> bool:
    """Whether all have their replies; that to the last one usually comes last."""
    return all(request.answer is not None for request in reversed(requests))


def _itself(request: Request) -> Request:
    return request


def _release(channel: Channel, wake: int) -> None:
    channel.close()
    os.close(wake)
