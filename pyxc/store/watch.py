# SPDX-License-Identifier: MIT
"""Waiting for changes in xenstore: blocking, in a thread, in asyncio, or with other descriptors."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

from pyxc import arguments
from pyxc.errors import StoreError
from pyxc.store.connection import Connection, Request
from pyxc.store.session import Session
from pyxc.store.wire import Kind, Message, join, path_bytes
from pyxc.waiting import until_readable_async

EVENTS_MOST = 1024
_DEPTH_MOST = 2**31 - 1
"""The most queued events of one Watch, besides one for each watched path."""


class Event(NamedTuple):
    """`path` has changed; @introduceDomain and @releaseDomain are special paths.

    `token` is the object that was passed to add() for the path that fired, by default the watched path.
    """

    path: str
    token: Any


class _Watched(NamedTuple):
    """A watched path, with its token, and the number of levels below it that count."""

    path: str
    token: Any
    depth: int | None

    def covers(self, path: str) -> bool:
        """Whether an event is within the depth; names of domains below a special path are."""
        if self.depth is None or path.startswith("@"):
            return True
        return path.rstrip("/").count("/") - self.path.rstrip("/").count("/") <= self.depth


class Watch:
    """Events of one or several paths, in order: `with store.watch("/local/domain") as watch:`.

    A path is watched with everything below it. xenstore fires once when a watch is set, and may fire more
    often than nodes change: read the nodes after each event. An event equal to a queued one is dropped. If
    more than EVENTS_MOST events are queued, all events of a watched path become one event of that path:
    something below it has changed. @introduceDomain fires when a domain starts to use xenstore,
    @releaseDomain when one has shut down, crashed or gone.

    Each event goes to one thread. A signal handler may close it, but cannot wait with it while the
    interrupted code uses the same connection (RuntimeError). Threads: safe to share; in a child after fork it
    refuses.
    """

    def __init__(self, session: Session, connection: Connection) -> None:
        self._session = session
        self._connection = connection
        self._watched: dict[str, _Watched] = {}
        self._events: dict[tuple[str, str], Event] = {}
        self._overrun: set[str] = set()
        self._ended = False
        self._readiness: _Readiness | None = None
        self._dropped = weakref.finalize(self, _drop, connection, self._watched)
        self._dropped.atexit = False

    def add(self, path: str, token: Any = None, depth: int | None = None) -> None:
        """Watch one more path; `token`, any object, is in its events. StoreError, ValueError.

        `depth` is the number of levels below it that count: 0 is only the node itself. Since Xen 4.22
        xenstored does not fire for deeper nodes; events of an older one are dropped here. With 1,
        @releaseDomain and @introduceDomain name the domain, as in "@releaseDomain/5": EINVAL if xenstored
        does not support that. Linux's xenbus device does not pass the depth on: the client drops deeper
        events, and no domain is named.
        """
        path_bytes(path, special=True)
        if depth is not None:
            arguments.natural("depth", depth, _DEPTH_MOST)
        try:
            self._add(path, token, depth, () if depth is None else (str(depth).encode(),))
        except StoreError as error:
            if depth is None or path.startswith("@") or error.errno != errno.EINVAL:
                raise
            self._add(path, token, depth)

    def _add(self, path: str, token: Any, depth: int | None, words: tuple[bytes, ...] = ()) -> None:
        """`words` request a depth from xenstored; empty if it does not support depths."""
        if not self._connection.answered:
            # For a watch Linux's device itself waits for xenstored, without a limit and uninterruptibly.
            self._ask(Kind.GET_DOMAIN_PATH, None, b"0")
        wire_token = self._connection.new_token()
        with self._connection.locked():
            self._check()
            # It fires at once: the place for its events has to be there first.
            self._watched[wire_token] = _Watched(path, token, depth)
            self._connection.subscribe(wire_token, self)
        request = self._prepared(Kind.WATCH, path, wire_token.encode(), *words)
        request.undo = partial(_unwatched, path, wire_token)
        try:
            self._session.ask(self._connection, request, path)
        except BaseException:
            self._connection.abandon(request)
            self._silence(wire_token)
            self._watched.pop(wire_token, None)
            self._connection.tidy()
            raise

    def remove(self, path: str, token: Any = None) -> None:
        """Stop watching a path; its queued events are dropped. KeyError if it is not watched with this
        token."""
        with self._connection.locked():
            found = [key for key, one in self._watched.items() if one.path == path and one.token is token]
        if not found:
            raise KeyError(f"this watch does not cover {path}")
        self._silence(found[0])
        request = _unwatch(path, found[0])
        try:
            self._session.ask(self._connection, request, path)
        finally:
            if not request.sent:
                self._connection.send_later(request)
            self._watched.pop(found[0], None)

    def _prepared(self, kind: Kind, path: str | None, *strings: bytes) -> Request:
        return self._session.prepared(self._connection, kind, path, *strings)

    def _ask(self, kind: Kind, path: str | None, *strings: bytes) -> None:
        self._session.ask(self._connection, self._prepared(kind, path, *strings), path)

    def _silence(self, wire_token: str) -> None:
        """Drop all events of a path, also queued ones."""
        with self._connection.locked():
            self._connection.unsubscribe(wire_token)
            for key in [key for key in self._events if key[1] == wire_token]:
                del self._events[key]
            self._overrun.discard(wire_token)
            self._show()

    def get(self, timeout: float | None = None) -> Event | None:
        """The next event; None if there is none within `timeout` seconds (None: no limit).

        StoreError if the connection ends, ValueError if the watch or its client is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        taken: list[tuple[tuple[str, str], Event]] = []

        def take() -> bool:
            self._check()
            if self._events:
                taken.append(next(iter(self._events.items())))
                del self._events[taken[0][0]]
                self._overrun.discard(taken[0][0][1])
                self._show()
            return bool(taken)

        try:
            return taken[0][1] if self._connection.wait(take, deadline) else None
        except BaseException:
            if taken:
                with self._connection.locked():
                    self._events = {**dict(taken), **self._events}
            raise

    def __iter__(self) -> Iterator[Event]:
        """Events until the watch or its client is closed. StoreError if the connection ends."""
        while True:
            try:
                event = self.get()
            except ValueError:
                return
            if event is not None:
                yield event

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The same in asyncio: `async for event in watch:`. In one task at a time."""
        while True:
            try:
                event = self.get(timeout=0)
                descriptor = self.fileno()
            except ValueError:
                return
            if event is None:
                await until_readable_async(descriptor, None)
            else:
                yield event

    def call(self, function: Callable[[Event], object]) -> threading.Thread:
        """Call a function with each event, in a new thread, until the watch is closed.

        An exception in the function ends the thread, and threading.excepthook reports it.
        """

        def run() -> None:
            for event in self:
                function(event)

        thread = threading.Thread(target=run, name="pyxc-watch", daemon=True)
        thread.start()
        return thread

    def fileno(self) -> int:
        """A descriptor for select(): readable if get(0) may have an event. Valid until close()."""
        with self._connection.locked():
            self._check()
            if self._readiness is None:
                self._readiness = _Readiness(self._connection.channel.fileno())
                self._show()
            return self._readiness.fileno()

    def put(self, path: str, token: str) -> None:
        """The connection delivers an event."""
        if token in self._overrun or not self._watched[token].covers(path):
            return
        self._events[path, token] = self._event(path, token)
        if len(self._events) > EVENTS_MOST + len(self._watched):
            paths = {waiting: self._watched[waiting].path for _, waiting in self._events}
            self._events = {(path, token): self._event(path, token) for token, path in paths.items()}
            self._overrun = set(paths)
        self._show()

    def _event(self, path: str, token: str) -> Event:
        watched, own_token, _ = self._watched[token]
        return Event(path, watched if own_token is None else own_token)

    def end(self) -> None:
        """The connection is closed."""
        self._ended = True
        self._show()

    def _show(self) -> None:
        """Make the descriptor readable if there is an event; with the lock held."""
        if self._readiness is not None:
            self._readiness.set(bool(self._events) or self._ended)

    def _check(self) -> None:
        self._connection.check()
        if self._ended:
            raise ValueError("this watch is closed")

    def close(self) -> None:
        """Stop watching, and end all waits. May be called again."""
        connection = self._connection
        if connection.forked:
            return
        if connection.interrupted:
            self._ended = True
            connection.when_left(self.close)
            return
        try:
            self._close()
        except BaseException:  # of a signal handler
            self._close()
            raise

    def _close(self) -> None:
        with self._connection.locked():
            self._events.clear()
            self.end()
            self._connection.wake()
        _drop(self._connection, self._watched)
        self._connection.tidy()
        self._dropped.detach()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unwatch(path: str, wire_token: str) -> Request:
    return Request(Kind.UNWATCH, join([path.encode("ascii"), wire_token.encode()]))


def _unwatched(path: str, wire_token: str, answer: Message) -> Request | None:
    """The request that removes a watch, if it was set."""
    return _unwatch(path, wire_token) if answer.kind == Kind.WATCH else None


def _drop(connection: Connection, watched: dict[str, _Watched]) -> None:
    """Remove all watches. Takes no lock: a finalizer may call it."""
    for wire_token, one in list(watched.items()):
        connection.unsubscribe(wire_token)
        connection.send_later(_unwatch(one.path, wire_token))
        watched.pop(wire_token, None)


class _Readiness:
    """A descriptor that is readable if another one is, or if it is set."""

    def __init__(self, descriptor: int) -> None:
        self._flag = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self._flag)
        self._is_set = False
        self._epoll = select.epoll()
        for source in (descriptor, self._flag):
            self._epoll.register(source, select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def set(self, value: bool) -> None:
        if value and not self._is_set:
            os.eventfd_write(self._flag, 1)
        elif self._is_set and not value:
            os.eventfd_read(self._flag)
        self._is_set = value
