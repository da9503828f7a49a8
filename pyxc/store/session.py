# SPDX-License-Identifier: MIT
"""Requests to xenstore through one connection: what transactions, watches and clients share."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from pyxc import arguments
from pyxc.errors import ReadOnlyError, StoreError
from pyxc.store import channel
from pyxc.store.channel import Channel
from pyxc.store.connection import Connection
from pyxc.store.nodes import Nodes
from pyxc.store.wire import CHANGES, PAYLOAD_MOST, Kind, error_of, join, path_bytes, split

TIMEOUT_S = 5.0
_SPECIAL = (Kind.WATCH, Kind.UNWATCH, Kind.SET_PERMS)


class Session(Nodes):
    """The nodes of xenstore, through a connection that is made when it is first needed.

    Threads: may be shared; requests do not wait for each other. After a fork only the parent may use it.
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
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def request(
        self, kind: Kind, path: str | None, *strings: bytes, tail: bytes = b"", transaction: int = 0
    ) -> bytes:
        if self.readonly and kind in CHANGES:
            raise ReadOnlyError(f"xenstore {kind.operation} changes something and this handle is read-only")
        first = [] if path is None else [path_bytes(path, special=kind in _SPECIAL)]
        payload = join([*first, *strings]) + tail
        if len(payload) > PAYLOAD_MOST:
            raise ValueError(f"{len(payload)} bytes in one request; xenstore takes {PAYLOAD_MOST}")
        try:
            answer = self.connection().request(kind, payload, transaction, self.timeout)
        except StoreError as error:
            raise StoreError(error.errno or 0, error.strerror or "", kind.operation, path) from error
        if answer.kind == Kind.ERROR:
            number, name = error_of(answer.payload)
            raise StoreError(number, f"{name}, {os.strerror(number)}", kind.operation, path)
        if answer.kind != kind:
            raise StoreError(errno.EPROTO, f"an answer of kind {answer.kind}", kind.operation, path)
        return answer.payload

    def domain_path(self, domid: int) -> str:
        """A domain's home, "/local/domain/3"; xenstore does not ask whether there is such a domain."""
        (path,) = self.strings(Kind.GET_DOMAIN_PATH, *numbers(arguments.domid(domid)), most=1)
        return path

    def strings(self, kind: Kind, *strings: bytes, most: int) -> list[str]:
        """The strings of an answer, of which there must be `most`."""
        answer = split(self.request(kind, None, *strings))
        if len(answer) != most:
            raise StoreError(errno.EPROTO, f"an answer of {len(answer)} strings", kind.operation)
        return answer

    def connection(self) -> Connection:
        """The connection, made when it is first needed. ValueError once the session is closed."""
        with self._lock:
            if self.closed:
                raise ValueError("this xenstore client is closed")
            if self._connection is None:
                self._connection = Connection(self._connect())
            return self._connection

    def close(self) -> None:
        """End the connection, its watches and its transactions. May be called again."""
        self.closed = True
        self.disconnect()

    def disconnect(self) -> None:
        """The same, but the next request makes a new connection."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def connected(self) -> bool:
        return self._connection is not None


def numbers(*numbers: int) -> list[bytes]:
    """Numbers as strings of a request."""
    return [str(number).encode() for number in numbers]
