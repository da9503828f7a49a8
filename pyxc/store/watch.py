# SPDX-License-Identifier: MIT
"""Waiting for changes in xenstore: blocking, in a thread, in asyncio, or beside other descriptors."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

from pyxc.errors import StoreError
from pyxc.store.connection import Connection
from pyxc.store.session import Session
from pyxc.store.wire import Kind, path_bytes
from pyxc.waiting import until_readable_async


class Event(NamedTuple):
    """`path` changed, or, when it is @introduceDomain or @releaseDomain, that happened.

    `token` is what add() was given for the watch that fired, the very object; the watched path without one.
    """

    path: str
    token: Any


class Watch:
    """Events of one or several paths, in order: `with store.watch("/local/domain") as watch:`.

    A path is watched with all that is below it. xenstore fires once as soon as a watch is set, and may fire
    more often than something changes: look at what you wait for after each event. An event equal to one that
    still waits to be taken is dropped. @introduceDomain fires when a domain begins to use xenstore,
    @releaseDomain when one shut down, crashed or is gone.

    Threads: may be used by many; each event goes to one of them.
    """

    def __init__(self, session: Session, connection: Connection) -> None:
        self._session = session
        self._connection = connection
        self._watched: dict[str, tuple[str, Any]] = {}
        self._events: dict[tuple[str, str], Event] = {}
        self._ended = False
        self._readiness: _Readiness | None = None

    def add(self, path: str, token: Any = None) -> None:
        """Watch one more path; a token of any kind comes back in its events. StoreError, ValueError."""
        path_bytes(path, special=True)
        if not self._connection.answered:
            # Asked for a watch, Linux's device itself waits for xenstored: for ever, and no signal ends it.
            self._session.domain_path(0)
        wire_token = self._connection.new_token()
        with self._connection.locked():
            self._check()
            # It fires at once: the place for its events has to be there first.
            self._watched[wire_token] = path, token
            self._connection.subscribe(wire_token, self)
        try:
            self._session.request(Kind.WATCH, path, wire_token.encode())
        except BaseException:
            self._forget(wire_token)
            raise

    def remove(self, path: str, token: Any = None) -> None:
        """Watch it no more; events that still wait are dropped. KeyError when it is not watched so."""
        with self._connection.locked():
            found = [key for key, (known, kept) in self._watched.items() if known == path and kept is token]
        if not found:
            raise KeyError(f"{path} is not watched here")
        self._forget(found[0])
        self._session.request(Kind.UNWATCH, path, found[0].encode())

    def _forget(self, wire_token: str) -> None:
        with self._connection.locked():
            self._connection.unsubscribe(wire_token)
            self._watched.pop(wire_token, None)
            for key in [key for key in self._events if key[1] == wire_token]:
                del self._events[key]
            self._show()

    def get(self, timeout: float | None = None) -> Event | None:
        """The next event; None when none came within `timeout` seconds. Without one it waits for ever.

        StoreError when the connection ends, ValueError when the watch or its client is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        taken: list[Event] = []

        def take() -> bool:
            self._check()
            if self._events:
                taken.append(self._events.pop(next(iter(self._events))))
                self._show()
            return bool(taken)

        return taken[0] if self._connection.wait(take, deadline) else None

    def __iter__(self) -> Iterator[Event]:
        """Events for ever, until the watch or its client is closed. StoreError when the connection ends."""
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

        What the function raises ends the thread, and threading.excepthook tells of it.
        """

        def run() -> None:
            for event in self:
                function(event)

        thread = threading.Thread(target=run, name="pyxc-watch", daemon=True)
        thread.start()
        return thread

    def fileno(self) -> int:
        """To wait with select and the like: readable when get(0) may have an event. Valid until closed."""
        with self._connection.locked():
            self._check()
            if self._readiness is None:
                self._readiness = _Readiness(self._connection.channel.fileno())
                self._show()
            return self._readiness.fileno()

    def put(self, path: str, token: str) -> None:
        """The connection brings an event."""
        watched, own_token = self._watched[token]
        self._events[path, token] = Event(path, watched if own_token is None else own_token)
        self._show()

    def end(self) -> None:
        """The connection is closed."""
        self._ended = True
        self._show()

    def _show(self) -> None:
        """Make the descriptor say whether there is something to take; with the lock held."""
        if self._readiness is not None:
            self._readiness.set(bool(self._events) or self._ended)

    def _check(self) -> None:
        self._connection.check()
        if self._ended:
            raise ValueError("this watch is closed")

    def close(self) -> None:
        """Watch nothing more, and end all waiting for it. May be called again."""
        if self._connection.forked:
            return
        with self._connection.locked():
            watched = dict(self._watched)
        for wire_token, (path, _) in watched.items():
            self._forget(wire_token)
            with contextlib.suppress(StoreError, ValueError):
                self._session.request(Kind.UNWATCH, path, wire_token.encode())
        with self._connection.locked():
            self.end()
            self._connection.wake()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Readiness:
    """A descriptor that is readable when another one is, or when it is set."""

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
