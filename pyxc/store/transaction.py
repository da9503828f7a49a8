# SPDX-License-Identifier: MIT
"""A transaction: changes of several nodes that take effect all at once or not at all."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from pyxc.errors import StoreError
from pyxc.store.connection import Connection, Request
from pyxc.store.nodes import Nodes
from pyxc.store.session import Session
from pyxc.store.wire import CHANGES, Kind, Message

_START, _END = Kind.TRANSACTION_START, Kind.TRANSACTION_END
_ABORT = b"F\0"


class Transaction(Nodes):
    """The nodes as of its first read, with its own changes, which other clients do not see yet.

    StoreClient.transact() begins, commits and repeats it. A transaction that is dropped, or whose beginning
    or end is interrupted, does not remain in xenstore. Threads: one at a time.

    Example:

    >>> def count(tx):
    ...     runs = int(tx.read("/tool/runs") or 0) + 1
    ...     tx.write("/tool/runs", str(runs))
    ...     return runs
    >>> xen.store.transact(count), xen.store.transact(count)
    (1, 2)
    """

    def __init__(self, session: Session, number: int, connection: Connection | None = None) -> None:
        self._number = number
        self._session = session
        self._connection = session.connection() if connection is None else connection
        self._open = True
        self._begun: Request | None = None
        self._dropped: weakref.finalize[..., Transaction] | None = None

    @classmethod
    def begin(cls, session: Session) -> Transaction:
        """Begin a transaction. StoreError."""
        connection = session.free_connection()
        begun = session.prepared(connection, _START, None, b"")
        begun.undo = _abort
        try:
            payload = session.ask(connection, begun, None)
            number = _number(payload)
            if not number:
                raise StoreError(errno.EPROTO, f"{payload[:40]!r} is not a transaction", _START.operation)
            transaction = cls(session, number, connection)
            transaction._begun = begun
            transaction._dropped = weakref.finalize(transaction, connection.abandon, begun)
            transaction._dropped.atexit = False
        except BaseException:
            connection.abandon(begun)
            connection.tidy()
            raise
        return transaction

    @property
    def number(self) -> int:
        """Its number in requests. With it the transaction can be ended without this object."""
        if self._dropped is not None:
            self._dropped.detach()
        return self._number

    def request(self, kind: Kind, path: str | None, *strings: bytes, tail: bytes = b"") -> bytes:
        if not self._open:
            raise ValueError("this transaction has ended")
        return self._ask(self._prepared(kind, path, *strings, tail=tail), path)

    def request_each(self, kind: Kind, paths: Iterable[str]) -> list[bytes | StoreError]:
        if not self._open:
            raise ValueError("this transaction has ended")
        return self._session.ask_each(self._connection, kind, paths, self._number)

    @contextmanager
    def together(self) -> Iterator[Nodes]:
        """Changes in the block are sent at its end, several before the first reply; the first refusal is
        raised. Nothing can be read there."""
        changes = _Changes(self._prepared)
        yield changes
        if not self._open:
            raise ValueError("this transaction has ended")
        for outcome in self._session.ask_all(self._connection, changes.each):
            if isinstance(outcome, StoreError):
                raise outcome

    def _prepared(self, kind: Kind, path: str | None, *strings: bytes, tail: bytes = b"") -> Request:
        return self._session.prepared(
            self._connection, kind, path, *strings, tail=tail, transaction=self._number
        )

    def _ask(self, request: Request, path: str | None) -> bytes:
        return self._session.ask(self._connection, request, path)

    def commit(self) -> bool:
        """Commit it. False, without any change, if another change conflicts with it."""
        try:
            self._finish(b"T")
        except StoreError as error:
            if error.errno == errno.EAGAIN:
                return False
            raise
        return True

    def abort(self) -> None:
        """Abort it without any change."""
        self._finish(b"F")

    def abandon(self) -> None:
        """Abort it, if it has not ended, without waiting for the reply; raises nothing."""
        was_open, self._open = self._open, False
        if self._begun is not None:
            self._connection.abandon(self._begun)
        elif was_open:
            self._connection.send_later(Request(_END, _ABORT, self._number))
        self._connection.tidy()
        if self._dropped is not None:
            self._dropped.detach()

    def _finish(self, outcome: bytes) -> None:
        if not self._open:
            raise ValueError("this transaction has ended")
        end: Request | None = None
        try:
            end = self._prepared(_END, None, outcome)
            self._ask(end, None)
        finally:
            if end is not None and end.sent:
                self._open = False
                if self._begun is not None:
                    self._begun.undo = None
            self.abandon()


class _Changes(Nodes):
    """Changes that are to be sent."""

    def __init__(self, prepared: Callable[..., Request]) -> None:
        self._prepared = prepared
        self.each: list[tuple[str | None, Request]] = []

    def request(self, kind: Kind, path: str | None, *strings: bytes, tail: bytes = b"") -> bytes:
        if kind not in CHANGES:
            raise ValueError(f"{kind.operation} has a reply, which comes at the end of the block")
        self.each.append((path, self._prepared(kind, path, *strings, tail=tail)))
        return b""

    def request_each(self, kind: Kind, paths: Iterable[str]) -> list[bytes | StoreError]:
        return [self.request(kind, path) for path in paths]


def _number(payload: bytes) -> int:
    """The number in the reply to the beginning; 0 if it is malformed."""
    text = payload.removesuffix(b"\0")
    number = int(text) if text.isdigit() and len(text) <= 10 else 0
    return number if number < 2**32 else 0


def _abort(answer: Message) -> Request | None:
    """The request that ends the transaction, if it was begun."""
    number = _number(answer.payload) if answer.kind == _START else 0
    return Request(_END, _ABORT, number) if number else None
