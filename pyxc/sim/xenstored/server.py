# SPDX-License-Identifier: MIT
"""A xenstored in this process: it keeps a tree, speaks the protocol, and does what Xen's C xenstored does."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from pyxc.abi.domid import DOMID_ANY
from pyxc.errors import StoreError
from pyxc.sim.xenstored import control, domains, limits, nodes, transactions, watches
from pyxc.sim.xenstored.channel import SimChannel
from pyxc.sim.xenstored.daemon import Limits
from pyxc.sim.xenstored.host import HostDomains
from pyxc.sim.xenstored.request import HANDLERS, Introduced, Refused, Request
from pyxc.sim.xenstored.session import Session
from pyxc.sim.xenstored.tree import Permissions, Tree, parent_of
from pyxc.store.permission import Access, Permission
from pyxc.store.wire import PAYLOAD_MOST, Kind, Message, join

INTRODUCE, RELEASE = "@introduceDomain", "@releaseDomain"
OPERATIONS = (nodes, watches, transactions, domains, control, limits)
"""The modules that fill the register of handlers."""
_DOM0_ONLY: Permissions = (Permission(0, Access.NONE),)


_OF_DOM0 = (
    Kind.CONTROL,
    Kind.INTRODUCE,
    Kind.RELEASE,
    Kind.IS_DOMAIN_INTRODUCED,
    Kind.RESUME,
    Kind.SET_TARGET,
    Kind.SET_FEATURE,
    Kind.GET_QUOTA,
    Kind.SET_QUOTA,
)
_NEW = (Kind.GET_FEATURE, Kind.SET_FEATURE, Kind.GET_QUOTA, Kind.SET_QUOTA)
"""Requests that exist since 4.22."""
_WITHOUT_TRANSACTION = (Kind.WATCH, Kind.UNWATCH)
"""Requests that do not look at the number of a transaction."""


class Xenstored:
    """The whole daemon. It starts no thread: requests are carried out in the thread that sends them.

    `StoreClient(xenstored.connect)` is a client in dom0; `lambda: xenstored.connect(3)` connects as domain 3.
    Threads: safe to share.
    """

    def __init__(self, host: HostDomains, lock: AbstractContextManager[Any]) -> None:
        self.host = host
        self.tree = Tree()
        self.lock = lock
        self.limits = Limits()
        self.sessions: list[Session] = []
        self._introduced = {0: Introduced()}
        ends: Permissions = (Permission(DOMID_ANY, Access.READ),) if host.since(4, 22) else ()
        self._special = {INTRODUCE: _DOM0_ONLY, RELEASE: (*_DOM0_ONLY, *ends)}
        self.write("/tool/xenstored", "")

    def connect(self, domid: int = 0) -> SimChannel:
        """A channel for a client in dom0, or in a guest. ValueError for one that was not introduced."""
        with self.lock:
            if domid not in self._introduced:
                raise ValueError(f"domain {domid} was not introduced to xenstore")
            return SimChannel(self, domid)

    def attach(self, domid: int, output: Callable[[bytes], None], ended: Callable[[], None]) -> Session:
        """A new session: bytes for its client go to `output`; `ended` when xenstored gives it up."""
        with self.lock:
            session = Session(self, domid, output, ended)
            self.sessions.append(session)
            return session

    def disconnect(self, session: Session) -> None:
        """The end of a session, from either side."""
        with self.lock:
            if session in self.sessions:
                self.sessions.remove(session)
                session.ended()

    def feed(self, session: Session, data: bytes) -> None:
        """Bytes from a client: answers each request that is complete. A message that is too long ends it."""
        try:
            messages = session.parser.feed(data)
        except StoreError:
            self.disconnect(session)
            return
        for message in messages:
            self._answer(session, message)

    def _answer(self, session: Session, message: Message) -> None:
        try:
            kind, payload = message.kind, self._carry_out(session, message)
            if len(payload) > PAYLOAD_MOST:
                raise Refused(errno.E2BIG)
        except Refused as refused:
            kind, payload = Kind.ERROR, join([refused.name])
        session.output(Message(kind, message.request, message.transaction, payload).encode())
        if kind == Kind.WATCH:
            session.tell(session.watches[-1], session.watches[-1].path)

    def _carry_out(self, session: Session, message: Message) -> bytes:
        handler = HANDLERS.get(message.kind)
        if handler is None or (message.kind in _NEW and not self.host.since(4, 22)):
            raise Refused(errno.ENOSYS)
        if session.guest and message.kind in _OF_DOM0:
            raise Refused(errno.EACCES)
        transaction = None
        if message.transaction and message.kind not in _WITHOUT_TRANSACTION:
            transaction = session.transactions.get(message.transaction)
            if transaction is None:
                raise Refused(errno.ENOENT)
        return handler(Request(self, session, message.payload, transaction))

    def write(self, path: str, value: str, permissions: Iterable[Permission] = ()) -> None:
        """What a toolstack writes."""
        self._ask(Kind.WRITE, path.encode() + b"\0" + value.encode())
        texts = [str(one).encode() for one in permissions]
        if texts:
            self._ask(Kind.SET_PERMS, join([path.encode(), *texts]))

    def _ask(self, kind: Kind, payload: bytes) -> None:
        with self.lock:
            toolstack = Session(self, 0, lambda data: None, lambda: None)
            HANDLERS[kind](Request(self, toolstack, payload, None))

    def fire(self, path: str, exact: bool, *before: Permissions) -> None:
        """Tell of a change of a node those who could see it before, or can see it or its parent now."""
        node, parent = self.tree.get(path), self.tree.get(parent_of(path))
        visible = list(before)
        if node is not None:
            visible.append(node.permissions)
        if visible and parent is not None:
            visible.append(parent.permissions)
        for session in list(self.sessions):
            if any(session.access(permissions) & Access.READ for permissions in visible):
                session.fire(path, exact)

    def _fire_special(self, name: str, *domids: int | None) -> None:
        """Once for each domain, for those who want to know which, and for None once for the others."""
        for session in list(self.sessions):
            if session.access(self._special[name]) & Access.READ:
                for domid in domids:
                    session.fire_special(name, domid)

    def set_special(self, session: Session, name: str, permissions: Permissions) -> None:
        """The receivers of a special event. Refused: EINVAL, EACCES."""
        if name not in self._special:
            raise Refused(errno.EINVAL)
        if not session.owns(self._special[name]):
            raise Refused(errno.EACCES)
        self._special[name] = permissions

    def introduced(self, domid: int) -> Introduced:
        """A domain that can use xenstore. Refused (ENOENT)."""
        if domid not in self._introduced:
            raise Refused(errno.ENOENT)
        return self._introduced[domid]

    def is_introduced(self, domid: int) -> bool:
        return domid in self._introduced

    def target_of(self, domid: int) -> int | None:
        """The domain whose rights another one shares."""
        domain = self._introduced.get(domid)
        return domain.target if domain else None

    def introduce(self, domid: int, port: int) -> None:
        """Let a domain use xenstore through an unbound port of it; one that can already begins afresh."""
        known = self._introduced.get(domid)
        local = self.host.bind(domid, port)
        if known is not None:
            self._reset(domid)
        elif local:
            self.add(domid, local)
        else:
            raise Refused(errno.EINVAL)

    def add(self, domid: int, port: int) -> None:
        """A domain can use xenstore, and dom0's end of the channel between them is a port."""
        with self.lock:
            self._introduced[domid] = Introduced(port)
            self._fire_special(INTRODUCE, None, domid)

    def release(self, domid: int) -> None:
        """A domain cannot use xenstore any more. Refused (ENOENT)."""
        self.introduced(domid)
        self._remove(domid)

    def _reset(self, domid: int) -> None:
        for session in self.sessions:
            if session.domid == domid:
                session.reset()

    def _remove(self, domid: int) -> None:
        self.host.unbind(self._introduced.pop(domid).port)
        for session in [one for one in self.sessions if one.domid == domid]:
            self.disconnect(session)
        self.limits.forget(domid)
        self._fire_special(RELEASE, None, domid)

    def check_domains(self) -> None:
        """React to VIRQ_DOM_EXC: check which domains have shut down or gone."""
        with self.lock:
            stopped = []
            for domid, domain in list(self._introduced.items()):
                if not self.host.exists(domid):
                    self._remove(domid)
                elif self.host.stopped(domid) and not domain.stopped:
                    domain.stopped = True
                    stopped.append(domid)
            if stopped:
                self._fire_special(RELEASE, *stopped, None)
