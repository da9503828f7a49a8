# SPDX-License-Identifier: MIT
"""One request to a simulated xenstored: what it says, and what its sender may do."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Protocol

from pyxc.sim.xenstored.daemon import Daemon
from pyxc.sim.xenstored.session import Session
from pyxc.sim.xenstored.tree import Node, Permissions, Transaction, View, parent_of
from pyxc.store.permission import Access
from pyxc.store.wire import Kind

_PATH = re.compile(r"/|(?:/[A-Za-z0-9@_-]+)+")
_HOME = re.compile(r"/local/domain/[0-9]{1,5}/")
_PATH_MOST = 2048
"""Characters of a path, not counting a domain's home before them."""
_NUMBER = re.compile(r"\s*([+-]?[0-9]+)")


_NAMES = frozenset(
    "EINVAL EACCES EEXIST EISDIR ENOENT ENOMEM ENOSPC EIO ENOTEMPTY ENOSYS EROFS EBUSY EAGAIN EISCONN E2BIG "
    "EPERM".split()
)
"""Errors that the protocol has words for."""


class Refused(Exception):
    """The answer is an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def name(self) -> bytes:
        """As it is sent."""
        name = errno.errorcode[self.number]
        return (name if name in _NAMES else "EINVAL").encode()


class Introduced:
    """A domain that can use xenstore."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.stopped = False
        self.target: int | None = None


class Server(Daemon, Protocol):
    """What a request can have done. Each may raise Refused."""

    sessions: list[Session]

    def fire(self, path: str, exact: bool, *before: Permissions) -> None:
        """Tell of a change of a node those who could see it before, or can see it or its parent now."""

    def set_special(self, session: Session, name: str, permissions: Permissions) -> None:
        """The receivers of a special event."""

    def introduced(self, domid: int) -> Introduced:
        """A domain that can use xenstore."""

    def is_introduced(self, domid: int) -> bool:
        """Whether a domain can use xenstore."""

    def introduce(self, domid: int, port: int) -> None:
        """Let a domain use xenstore."""

    def release(self, domid: int) -> None:
        """A domain cannot use xenstore any more."""


class Request:
    """The payload of a request, and its sender's view of the nodes."""

    def __init__(
        self, server: Server, session: Session, payload: bytes, transaction: Transaction | None
    ) -> None:
        self.server = server
        self.session = session
        self.payload = payload
        self.transaction = transaction

    @property
    def view(self) -> View:
        return self.transaction or self.server.tree

    @property
    def features(self) -> int:
        """What xenstored does for the sender, of what is new since 4.22."""
        if not self.server.host.since(4, 22):
            return 0
        return self.server.limits.of(self.session.domid).features

    def exceeds(self, quota: str, count: int) -> bool:
        """Whether a guest would have too much of something."""
        limit = self.server.limits.of(self.session.domid).quotas[quota]
        return self.session.guest and 0 < limit < count

    def strings(self, least: int) -> list[str]:
        """Strings that have an end, at least so many. Refused (EINVAL)."""
        found = self.payload.split(b"\0")[:-1]
        if len(found) < least:
            raise Refused(errno.EINVAL)
        return [string.decode("latin-1") for string in found]

    def only(self) -> str:
        """The one string that it consists of. Refused (EINVAL)."""
        if self.payload.find(b"\0") != len(self.payload) - 1:
            raise Refused(errno.EINVAL)
        return self.strings(1)[0]

    def number(self, text: str) -> int:
        """A number at the start of a string, 0 without one."""
        match = _NUMBER.match(text)
        return int(match[1]) if match else 0

    def path(self, text: str) -> str:
        """An absolute path. Refused (EINVAL)."""
        path = self.session.absolute(text)
        home = _HOME.match(path)
        if not _PATH.fullmatch(path) or len(path) > _PATH_MOST + (home.end() if home else 0):
            raise Refused(errno.EINVAL)
        return path

    def find(self, path: str, wanted: Access) -> Node:
        """A node that the sender may use so. Refused: ENOENT, EACCES.

        A client that could not use the parent, either, does not learn which of the two it is.
        """
        node = self.view.get(path)
        if node is not None and self.session.access(node.permissions) & wanted == wanted:
            return node
        number = errno.ENOENT if node is None else errno.EACCES
        raise Refused(number if self.session.access(self._above(path).permissions) & wanted else errno.EACCES)

    def find_or_none(self, path: str, wanted: Access) -> Node | None:
        """The same, None if there is no node. Refused (EACCES)."""
        try:
            return self.find(path, wanted)
        except Refused as refused:
            if refused.number != errno.ENOENT:
                raise
            return None

    def _above(self, path: str) -> Node:
        """The nearest node above a path."""
        node = None
        while node is None:
            path = parent_of(path)
            node = self.view.get(path)
        return node

    def fire(self, path: str, exact: bool = False, *before: Node) -> None:
        """Tell those who watch a path, now or when the transaction is committed."""
        if self.transaction is not None:
            self.transaction.will_fire(path, exact)
        else:
            self.server.fire(path, exact, *(node.permissions for node in before))


Handler = Callable[[Request], bytes]
"""Carries a request out; returns the payload, or raises Refused."""

HANDLERS: dict[int, Handler] = {}

OK = b"OK\0"


def answers(kind: Kind) -> Callable[[Handler], Handler]:
    """Register a function as what carries out requests of a kind."""

    def register(handler: Handler) -> Handler:
        HANDLERS[kind] = handler
        return handler

    return register
