# SPDX-License-Identifier: MIT
"""One client of a simulated xenstored: its requests, watches and transactions."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pyxc.errors import StoreError
from pyxc.sim.xenstored import control, domains, nodes, transactions, watches
from pyxc.sim.xenstored.request import HANDLERS, Refused, Request
from pyxc.sim.xenstored.tree import Permissions, Transaction, is_below
from pyxc.store.wire import PAYLOAD_MOST, Access, Kind, Message, Parser, join

if TYPE_CHECKING:
    from pyxc.sim.xenstored.server import Xenstored

OPERATIONS = (nodes, watches, transactions, domains, control)
"""The modules that fill the register of handlers."""

_ALL = Access.READ | Access.WRITE
_OF_DOM0 = (
    Kind.CONTROL,
    Kind.INTRODUCE,
    Kind.RELEASE,
    Kind.IS_DOMAIN_INTRODUCED,
    Kind.RESUME,
    Kind.SET_TARGET,
)
_WITHOUT_TRANSACTION = (Kind.WATCH, Kind.UNWATCH)
"""Requests that do not look at the number of a transaction."""


class Watched(NamedTuple):
    """`path` is absolute; `told_without` is what events leave out of it when it was given as relative."""

    path: str
    token: str
    told_without: str


class Session:
    """A client in dom0, which may do everything, or a guest's connection. Used with the server's lock."""

    def __init__(
        self, server: Xenstored, domid: int, output: Callable[[bytes], None], ended: Callable[[], None]
    ) -> None:
        self.server = server
        self.domid = domid
        self.ended = ended
        self.watches: list[Watched] = []
        self.transactions: dict[int, Transaction] = {}
        self._numbers = 0
        self._output = output
        self._parser = Parser()

    @property
    def guest(self) -> bool:
        """Whether permissions and limits are for it."""
        return self.domid != 0

    def feed(self, data: bytes) -> None:
        """Bytes from the client: answers what is complete. A message that is too long ends the session."""
        try:
            messages = self._parser.feed(data)
        except StoreError:
            self.server.disconnect(self)
            return
        for message in messages:
            self._answer(message)

    def _answer(self, message: Message) -> None:
        try:
            kind, payload = message.kind, self._carry_out(message)
            if len(payload) > PAYLOAD_MOST:
                raise Refused(errno.E2BIG)
        except Refused as refused:
            kind, payload = Kind.ERROR, join([refused.name])
        self._output(Message(kind, message.request, message.transaction, payload).encode())
        if kind == Kind.WATCH:
            self._tell(self.watches[-1], self.watches[-1].path)

    def _carry_out(self, message: Message) -> bytes:
        handler = HANDLERS.get(message.kind)
        if handler is None:
            raise Refused(errno.ENOSYS)
        if self.guest and message.kind in _OF_DOM0:
            raise Refused(errno.EACCES)
        transaction = None
        if message.transaction and message.kind not in _WITHOUT_TRANSACTION:
            transaction = self.transactions.get(message.transaction)
            if transaction is None:
                raise Refused(errno.ENOENT)
        return handler(Request(self, message.payload, transaction))

    def absolute(self, path: str) -> str:
        """A path as everybody knows it."""
        return path if path[:1] in ("/", "@") else f"{self._home}{path}"

    @property
    def _home(self) -> str:
        return f"/local/domain/{self.domid}/"

    def access(self, permissions: Permissions) -> Access:
        """What it may do with a node of such permissions."""
        if self.owns(permissions):
            return _ALL
        who = (self.domid, self.server.target_of(self.domid))
        named = [one for one in permissions[1:] if one.domid in who and self.server.host.exists(one.domid)]
        return (named or permissions)[0].access

    def owns(self, permissions: Permissions) -> bool:
        """Whether it counts as the owner of a node."""
        owner = permissions[0].domid
        return not self.guest or owner in (self.domid, self.server.target_of(self.domid))

    def watched(self, path: str, token: str) -> bool:
        absolute = self.absolute(path)
        return any(one[:2] == (absolute, token) for one in self.watches)

    def watch(self, path: str, token: str) -> None:
        absolute = self.absolute(path)
        self.watches.append(Watched(absolute, token, "" if absolute == path else self._home))

    def unwatch(self, path: str, token: str) -> bool:
        """Whether there was such a watch."""
        before, absolute = len(self.watches), self.absolute(path)
        self.watches = [one for one in self.watches if one[:2] != (absolute, token)]
        return len(self.watches) < before

    def fire(self, path: str, exact: bool) -> None:
        """Tell the client of something that happened, once for each watch that it is news for."""
        for one in self.watches:
            if path == one.path or (not exact and is_below(path, one.path)):
                self._tell(one, path)

    def _tell(self, watch: Watched, path: str) -> None:
        told = path.removeprefix(watch.told_without)
        payload = join(text.encode("latin-1") for text in (told, watch.token))
        if len(payload) <= PAYLOAD_MOST:
            self._output(Message(Kind.WATCH_EVENT, 0, 0, payload).encode())

    def begin(self) -> int:
        """The number of a new transaction."""
        self._numbers += 1
        self.transactions[self._numbers] = Transaction(self.server.tree)
        return self._numbers

    def forget(self, transaction: Transaction) -> None:
        self.transactions = {key: one for key, one in self.transactions.items() if one is not transaction}

    def reset(self) -> None:
        """Neither watches nor transactions any more."""
        self.watches.clear()
        self.transactions.clear()
