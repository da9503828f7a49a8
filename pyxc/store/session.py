# SPDX-License-Identifier: MIT
"""Requests to xenstore through one connection: what transactions, watches and clients share."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Sequence

from pyxc import arguments
from pyxc.errors import ReadOnlyError, StoreError
from pyxc.store import channel
from pyxc.store.channel import Channel
from pyxc.store.connection import Connection, Request
from pyxc.store.nodes import Nodes
from pyxc.store.wire import CHANGES, PAYLOAD_MOST, Kind, Message, error_of, join, path_bytes, split

TIMEOUT_S = 5.0
_SPECIAL = (Kind.WATCH, Kind.UNWATCH, Kind.SET_PERMS)


class Session(Nodes):
    """The nodes of xenstore, through a connection that is opened on first use.

    Requests of several threads do not wait for each other, unless they use Linux's device. A signal handler
    may use it, whatever it interrupts: if that is a use of the connection, the handler gets another
    connection. Threads: safe to share; in a child after fork it refuses.
    """

    def __init__(
        self,
        connect: Callable[[], Channel] = channel.connect,
        *,
        readonly: bool = False,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self.readonly = readonly
        self.timeout = timeout
        self._connect = connect
        self.closed = False
        self._lock = threading.RLock()
        self._connections: list[Connection] = []
        """The first is the usual connection; the others are for signal handlers."""

    def request(
        self,
        kind: Kind,
        path: str | None,
        *strings: bytes,
        tail: bytes = b"",
        transaction: int = 0,
        timeout: float | None = None,
    ) -> bytes:
        """Send one request of the protocol, with bytes at its end; returns the payload of the reply.

        `transaction` belongs to the usual connection.
        """
        try:
            connection = self.connection() if transaction else self.free_connection()
        except StoreError as error:
            raise _of(error, kind, path) from error
        request = self.prepared(connection, kind, path, *strings, tail=tail, transaction=transaction)
        return self.ask(connection, request, path, timeout)

    def request_each(
        self, kind: Kind, paths: Iterable[str], *, timeout: float | None = None
    ) -> list[bytes | StoreError]:
        """Send a request for each path, and several before the first reply; returns payloads and refusals.

        StoreError, with the first path that has no reply, if the connection fails.
        """
        each = list(paths)
        try:
            connection = self.free_connection()
        except StoreError as error:
            raise _of(error, kind, each[0] if each else None) from error
        return self.ask_each(connection, kind, each, timeout=timeout)

    def prepared(
        self,
        connection: Connection,
        kind: Kind,
        path: str | None,
        *strings: bytes,
        tail: bytes = b"",
        transaction: int = 0,
    ) -> Request:
        """A valid request. ReadOnlyError, TypeError, ValueError."""
        if self.readonly and kind in CHANGES:
            raise ReadOnlyError(f"xenstore {kind.operation} makes changes, and this handle is read-only")
        first = [] if path is None else [path_bytes(path, special=kind in _SPECIAL)]
        payload = join([*first, *strings]) + tail
        most: int = getattr(connection.channel, "payload_most", PAYLOAD_MOST)
        if len(payload) > most:
            raise ValueError(f"the request has {len(payload)} bytes: xenstore accepts at most {most} here")
        return Request(kind, payload, transaction)

    def ask(
        self, connection: Connection, request: Request, path: str | None, timeout: float | None = None
    ) -> bytes:
        """Send a request on a connection; returns the payload of the reply. StoreError.

        RuntimeError in a signal handler that interrupted a use of this connection.
        """
        try:
            answer = connection.ask(request, self.timeout if timeout is None else timeout)
        except StoreError as error:
            raise _of(error, request.kind, path) from error
        outcome = _outcome(request.kind, path, answer)
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    def ask_each(
        self,
        connection: Connection,
        kind: Kind,
        paths: Iterable[str],
        transaction: int = 0,
        timeout: float | None = None,
    ) -> list[bytes | StoreError]:
        """The same through one connection."""
        each = [(path, self.prepared(connection, kind, path, transaction=transaction)) for path in paths]
        return self.ask_all(connection, each, timeout)

    def ask_all(
        self, connection: Connection, each: Sequence[tuple[str | None, Request]], timeout: float | None = None
    ) -> list[bytes | StoreError]:
        """The same for requests of any kind, with their paths."""
        try:
            answers = connection.ask_all(
                [request for _, request in each], self.timeout if timeout is None else timeout
            )
        except StoreError as error:
            path, request = next((one for one in each if one[1].answer is None), each[-1])
            raise _of(error, request.kind, path) from error
        return [_outcome(request.kind, path, answer) for (path, request), answer in zip(each, answers)]

    def domain_path(self, domid: int) -> str:
        """A domain's home, "/local/domain/3"; xenstore does not check whether the domain exists."""
        (path,) = self.strings(Kind.GET_DOMAIN_PATH, *numbers(arguments.domid(domid)), most=1)
        return path

    def strings(self, kind: Kind, *strings: bytes, most: int) -> list[str]:
        """The strings of a reply; there must be `most` of them."""
        answer = split(self.request(kind, None, *strings))
        if len(answer) != most:
            raise StoreError(errno.EPROTO, f"the reply has {len(answer)} strings", kind.operation)
        return answer

    def connection(self) -> Connection:
        """The usual connection, opened on first use. ValueError after close()."""
        with self._lock:
            return self._connections[0] if self._connections and not self.closed else self._made()

    def free_connection(self) -> Connection:
        """The usual connection, or another one in a signal handler that interrupted a use of it."""
        with self._lock:
            usable = [one for one in self._connections if not one.interrupted]
            return usable[0] if usable and not self.closed else self._made()

    def _made(self) -> Connection:
        self._check_open()
        made = Connection(self._connect())
        self._connections.append(made)
        try:
            self._check_open()
        except ValueError:  # a signal handler closed it
            self.close()
            raise
        return made

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("this xenstore client is closed")

    def close(self) -> None:
        """End the connection, its watches and its transactions. May be called again."""
        self.closed = True
        if self._connections:  # what is opened from now on closes itself
            self.disconnect()

    def disconnect(self) -> None:
        """The same, but the next request opens a new connection."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def renew(self) -> None:
        """Close a connection that ended with a restart of xenstored; the next request opens a new one."""
        with self._lock:
            connections = self._connections
            ended = [one for one in connections if one.ended]
            self._connections = [one for one in connections if one not in ended]
        for connection in ended:
            connection.close()

    def settled(self) -> bool:
        """Whether it waits for no more replies, including late ones; checks without waiting."""
        with self._lock:
            connections = list(self._connections)
        return all(connection.settled() for connection in connections)

    @property
    def connected(self) -> bool:
        return bool(self._connections)


def _of(error: StoreError, kind: Kind, path: str | None) -> StoreError:
    """The failure of a connection as that of a request."""
    return StoreError(error.errno or 0, error.strerror or "", kind.operation, path)


def _outcome(kind: Kind, path: str | None, answer: Message) -> bytes | StoreError:
    """The payload of a reply, or why there is none."""
    if answer.kind == Kind.ERROR:
        number, name = error_of(answer.payload)
        return StoreError(number, f"{name}, {os.strerror(number)}", kind.operation, path)
    if answer.kind != kind:
        return StoreError(errno.EPROTO, f"unexpected reply of type {answer.kind}", kind.operation, path)
    return answer.payload


def numbers(*numbers: int) -> list[bytes]:
    """Numbers as strings of a request."""
    return [str(number).encode() for number in numbers]
