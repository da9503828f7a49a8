# SPDX-License-Identifier: MIT
"""A transaction: changes of several nodes that happen all at once or not at all."""

from __future__ import annotations

import errno

from pyxc.errors import StoreError
from pyxc.store.nodes import Nodes
from pyxc.store.session import Session
from pyxc.store.wire import Kind


class Transaction(Nodes):
    """The nodes as they were when it first looked, with its own changes; nobody else sees these yet.

    StoreClient.transact() makes, commits and repeats it. Threads: one at a time.
    """

    def __init__(self, session: Session, number: int) -> None:
        self.number = number
        self._session = session
        self._open = True

    def request(self, kind: Kind, path: str | None, *strings: bytes, tail: bytes = b"") -> bytes:
        if not self._open:
            raise ValueError("this transaction has ended")
        return self._session.request(kind, path, *strings, tail=tail, transaction=self.number)

    def commit(self) -> bool:
        """End it. False, and nothing has changed, when what it looked at changed meanwhile: begin anew."""
        try:
            self._finish(b"T")
        except StoreError as error:
            if error.errno == errno.EAGAIN:
                return False
            raise
        return True

    def abort(self) -> None:
        """End it and leave everything as it was."""
        self._finish(b"F")

    def _finish(self, outcome: bytes) -> None:
        try:
            self.request(Kind.TRANSACTION_END, None, outcome)
        finally:
            self._open = False
