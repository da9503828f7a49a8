# SPDX-License-Identifier: MIT
"""A client of xenstore."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from pyxc import arguments
from pyxc.errors import ReadOnlyError, StoreError
from pyxc.store import channel
from pyxc.store.channel import Channel
from pyxc.store.connection import Connection
from pyxc.store.nodes import Nodes
from pyxc.store.transaction import Transaction
from pyxc.store.watch import Watch
from pyxc.store.wire import CHANGES, PAYLOAD_MOST, Kind, error_of, join, path_bytes, split

T = TypeVar("T")

TIMEOUT_S = 5.0
_COMMITS = 100
_SPECIAL = (Kind.WATCH, Kind.UNWATCH, Kind.SET_PERMS)


class StoreClient(Nodes):
    """xenstore, through a connection of its own that is made when it is first needed.

    `with StoreClient() as store:` is the xenstore of this host; a Xen handle has one in `xen.store`. Each
    request ends within `timeout` seconds, since in a dom0 without xenstored the kernel's device takes
    requests and never answers. A connection that failed stays so: open another client.

    Threads: one may be used by many; requests do not wait for each other. After a fork only the parent may
    use it.
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
            answer = self._open().request(kind, payload, transaction, self.timeout)
        except StoreError as error:
            raise StoreError(error.errno or 0, error.strerror or "", kind.operation, path) from error
        if answer.kind == Kind.ERROR:
            number, name = error_of(answer.payload)
            raise StoreError(number, f"{name}, {os.strerror(number)}", kind.operation, path)
        if answer.kind != kind:
            raise StoreError(errno.EPROTO, f"an answer of kind {answer.kind}", kind.operation, path)
        return answer.payload

    def transact(self, change: Callable[[Transaction], T]) -> T:
        """Call `change` with a transaction and commit it; call it again as often as somebody was faster.

        Answers what the last call did. What `change` raises aborts the transaction. StoreError EAGAIN when a
        hundred commits in a row came too late.

        >>> def count(tx):
        ...     tx.write("/tool/runs", str(int(tx.read("/tool/runs") or 0) + 1))
        >>> store.transact(count)
        """
        for _ in range(_COMMITS):
            transaction = self.begin()
            try:
                result = change(transaction)
            except BaseException:
                with contextlib.suppress(StoreError, ValueError):
                    transaction.abort()
                raise
            if transaction.commit():
                return result
        raise StoreError(errno.EAGAIN, f"{_COMMITS} times somebody was faster", "transaction_end")

    def begin(self) -> Transaction:
        """A transaction to be committed or aborted by hand; transact() does that, and repeats."""
        (number,) = self._strings(Kind.TRANSACTION_START, b"", most=1)
        if not number.isdigit() or not 0 < int(number) < 2**32:
            raise StoreError(errno.EPROTO, f"{number!r} is no transaction", "transaction_start")
        return Transaction(self, int(number))

    def watch(self, *paths: str) -> Watch:
        """Watch paths, or @introduceDomain and @releaseDomain; see Watch."""
        made = Watch(self, self._open())
        try:
            for path in paths:
                made.add(path)
        except BaseException:
            made.close()
            raise
        return made

    def introduce(self, domid: int, frame: int, port: int) -> None:
        """Let a domain use xenstore: over its frame (gfn) of ring and its unbound event channel port."""
        arguments.natural("frame", frame, 2**63 - 1)
        arguments.natural("port", port, 2**31 - 1)
        self.request(Kind.INTRODUCE, None, *_numbers(arguments.domid(domid), frame, port))

    def release(self, domid: int) -> None:
        """End a domain's use of xenstore; fires @releaseDomain."""
        self.request(Kind.RELEASE, None, *_numbers(arguments.domid(domid)))

    def resume(self, domid: int) -> None:
        """Let @releaseDomain fire anew when a domain that was shut down and resumed shuts down again."""
        self.request(Kind.RESUME, None, *_numbers(arguments.domid(domid)))

    def set_target(self, domid: int, target: int) -> None:
        """Give a domain, such as a device model's, the rights that another one has."""
        self.request(Kind.SET_TARGET, None, *_numbers(arguments.domid(domid), arguments.domid(target)))

    def is_introduced(self, domid: int) -> bool:
        """Whether a domain can use xenstore."""
        return self._strings(Kind.IS_DOMAIN_INTRODUCED, *_numbers(arguments.domid(domid)), most=1) == ["T"]

    def domain_path(self, domid: int) -> str:
        """A domain's home, "/local/domain/3"; xenstore does not ask whether there is such a domain."""
        (path,) = self._strings(Kind.GET_DOMAIN_PATH, *_numbers(arguments.domid(domid)), most=1)
        return path

    def control(self, *words: str) -> str:
        """A command to the daemon, such as control("help"); which there are depends on the daemon."""
        answer = self.request(Kind.CONTROL, None, *(word.encode() for word in words))
        return answer.rstrip(b"\0").decode(errors="replace")

    def _strings(self, kind: Kind, *strings: bytes, most: int) -> list[str]:
        """An answer of so many strings."""
        answer = split(self.request(kind, None, *strings))
        if len(answer) != most:
            raise StoreError(errno.EPROTO, f"an answer of {len(answer)} strings", kind.operation)
        return answer

    def _open(self) -> Connection:
        with self._lock:
            if self.closed:
                raise ValueError("this xenstore client is closed")
            if self._connection is None:
                self._connection = Connection(self._connect())
            return self._connection

    def close(self) -> None:
        """End the connection, its watches and its transactions. May be called again."""
        with self._lock:
            self.closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> StoreClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "not connected" if self._connection is None else "connected"
        return f"<StoreClient, {state}>"


def _numbers(*numbers: int) -> list[bytes]:
    return [str(number).encode() for number in numbers]
