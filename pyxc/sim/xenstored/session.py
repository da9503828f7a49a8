# SPDX-License-Identifier: MIT
"""One client of a simulated xenstored: what it may do, its watches and its transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pyxc.abi.domid import DOMID_ANY
from pyxc.sim.xenstored.daemon import Daemon
from pyxc.sim.xenstored.tree import Permissions, Transaction, is_below
from pyxc.store.permission import Access
from pyxc.store.wire import PAYLOAD_MOST, Kind, Message, Parser, join

_ALL = Access.READ | Access.WRITE


class Watched(NamedTuple):
    """`path` is absolute; `told_without` is what events leave out of it when it was given as relative.

    `depth` is how many levels below it count, None: all.
    """

    path: str
    token: str
    told_without: str
    depth: int | None = None

    def covers(self, path: str) -> bool:
        """Whether a node is this one, or near enough below it."""
        if path == self.path or self.depth is None:
            return path == self.path or is_below(path, self.path)
        return is_below(path, self.path) and path.count("/") - self.path.rstrip("/").count("/") <= self.depth


class Session:
    """A client in dom0, which may do everything, or a guest's connection. Used with the server's lock."""

    def __init__(
        self, server: Daemon, domid: int, output: Callable[[bytes], None], ended: Callable[[], None]
    ) -> None:
        self.server = server
        self.domid = domid
        self.ended = ended
        self.watches: list[Watched] = []
        self.transactions: dict[int, Transaction] = {}
        self._numbers = 0
        self.output = output
        self.parser = Parser()

    @property
    def guest(self) -> bool:
        """Whether permissions and limits are for it."""
        return self.domid != 0

    def absolute(self, path: str) -> str:
        """The absolute path."""
        return path if path[:1] in ("/", "@") else f"{self._home}{path}"

    @property
    def _home(self) -> str:
        return f"/local/domain/{self.domid}/"

    def access(self, permissions: Permissions) -> Access:
        """What it may do with a node of such permissions."""
        if self.owns(permissions):
            return _ALL
        named = [one for one in permissions[1:] if self._is_meant(one.domid)]
        return (named or permissions)[0].access

    def _is_meant(self, domid: int) -> bool:
        """Whether a permission for a domain is for this one. Since 4.22 one can be for all."""
        if domid == DOMID_ANY:
            return self.server.host.since(4, 22)
        own = domid in (self.domid, self.server.target_of(self.domid))
        return own and self.server.host.exists(domid)

    def owns(self, permissions: Permissions) -> bool:
        """Whether it counts as the owner of a node."""
        owner = permissions[0].domid
        return not self.guest or owner in (self.domid, self.server.target_of(self.domid))

    def watched(self, path: str, token: str) -> bool:
        absolute = self.absolute(path)
        return any(one[:2] == (absolute, token) for one in self.watches)

    def watch(self, path: str, token: str, depth: int | None = None) -> None:
        absolute = self.absolute(path)
        self.watches.append(Watched(absolute, token, "" if absolute == path else self._home, depth))

    def unwatch(self, path: str, token: str) -> bool:
        """Whether there was such a watch."""
        before, absolute = len(self.watches), self.absolute(path)
        self.watches = [one for one in self.watches if one[:2] != (absolute, token)]
        return len(self.watches) < before

    def fire(self, path: str, exact: bool) -> None:
        """Tell the client of something that happened, once for each watch that it is news for."""
        for one in self.watches:
            if path == one.path or (not exact and one.covers(path)):
                self.tell(one, path)

    def fire_special(self, name: str, domid: int | None) -> None:
        """Tell of a special event: of which domain where a watch has a depth; of None where it has none."""
        for one in self.watches:
            if domid is None:
                if one.path == name and one.depth is None:
                    self.tell(one, name)
            elif one.path == f"{name}/{domid}" or (one.path == name and one.depth):
                self.tell(one, f"{name}/{domid}")

    def tell(self, watch: Watched, path: str) -> None:
        """Tell the client of a path that one of its watches is for."""
        told = path.removeprefix(watch.told_without)
        payload = join(text.encode("latin-1") for text in (told, watch.token))
        if len(payload) <= PAYLOAD_MOST:
            self.output(Message(Kind.WATCH_EVENT, 0, 0, payload).encode())

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
