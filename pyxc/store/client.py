# SPDX-License-Identifier: MIT
"""A client of xenstore."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from pyxc import arguments
from pyxc.errors import StoreError
from pyxc.store.connection import Request
from pyxc.store.session import Session, numbers
from pyxc.store.wire import Kind, join

if TYPE_CHECKING:  # imported on first use: most programs only read
    from pyxc.store.features import StoreFeature
    from pyxc.store.transaction import Transaction
    from pyxc.store.usage import StoreUsage
    from pyxc.store.watch import Watch

T = TypeVar("T")

_COMMITS = 100
_DIGITS_MOST = 10
_ID_MOST = 2**16 - 1


class StoreClient(Session):
    """xenstore, through a separate connection that is opened on first use.

    `with StoreClient() as store:` is the xenstore of this host; a Xen handle has a client in `xen.store`.
    Each request ends within `timeout` seconds, because in a dom0 without xenstored the kernel's device
    accepts requests and never replies. A failed connection does not recover: open another client. Requests of
    several threads do not wait for each other, unless they use that device. Threads: safe to share; in a
    child after fork it refuses.

    Example:

    >>> store = xen.store
    >>> store.write("/tool/backup/last", "2026-11-25")
    >>> store.read("/tool/backup/last"), store.list("/tool/backup"), store.read("/tool/nothing")
    (b'2026-11-25', ['last'], None)
    """

    def transact(self, change: Callable[[Transaction], T]) -> T:
        """Call `change` with a transaction and commit it; call it again after a conflict with another change.

        Returns the result of the last call. An exception in `change` aborts the transaction. StoreError
        EAGAIN after a hundred conflicts in a row.

        Example:

        >>> def count(tx):
        ...     tx.write("/tool/runs", str(int(tx.read("/tool/runs") or 0) + 1))
        >>> xen.store.transact(count)
        >>> xen.store.read("/tool/runs")
        b'1'
        """
        for _ in range(_COMMITS):
            transaction = self.begin()
            try:
                result = change(transaction)
                committed = transaction.commit()
            except BaseException:
                transaction.abandon()
                raise
            if committed:
                return result
        raise StoreError(errno.EAGAIN, f"other changes conflicted {_COMMITS} times", "transaction_end")

    def begin(self) -> Transaction:
        """Begin a transaction that you commit or abort; transact() does so itself, and repeats."""
        from pyxc.store.transaction import Transaction

        return Transaction.begin(self)

    def watch(self, *paths: str, depth: int | None = None) -> Watch:
        """Watch paths, or @introduceDomain and @releaseDomain; see Watch, and Watch.add() for `depth`.

        Example:

        >>> with xen.store.watch("/local/domain/1/control") as watch:
        ...     watch.get().path
        ...     xen.store.write("/local/domain/1/control/test", "1")
        ...     watch.get(timeout=5).path
        '/local/domain/1/control'
        '/local/domain/1/control/test'
        """
        from pyxc.store.watch import Watch

        made = Watch(self, self.free_connection())
        try:
            for path in paths:
                made.add(path, depth=depth)
        except BaseException:
            made.close()
            raise
        return made

    def introduce(self, domid: int, frame: int, port: int) -> None:
        """Let a domain use xenstore, over the ring in one of its frames (gfn) and an unbound port."""
        arguments.natural("frame", frame, 2**63 - 1)
        arguments.natural("port", port, 2**31 - 1)
        self.request(Kind.INTRODUCE, None, *numbers(arguments.domid(domid), frame, port))

    def release(self, domid: int) -> None:
        """End a domain's use of xenstore; fires @releaseDomain."""
        self.request(Kind.RELEASE, None, *numbers(arguments.domid(domid)))

    def resume(self, domid: int) -> None:
        """Let @releaseDomain fire again when a resumed domain shuts down again."""
        self.request(Kind.RESUME, None, *numbers(arguments.domid(domid)))

    def set_target(self, domid: int, target: int) -> None:
        """Give a domain, such as a device model's, the rights of another one."""
        self.request(Kind.SET_TARGET, None, *numbers(arguments.domid(domid), arguments.domid(target)))

    def features(self, domid: int | None = None) -> StoreFeature:
        """The features of xenstored, for this connection or for a domain (GET_FEATURE).

        StoreError ENOSYS before Xen 4.22; ENOENT: no such domain.
        """
        from pyxc.store.features import StoreFeature

        words = [] if domid is None else numbers(arguments.domid(domid))
        return StoreFeature(self._number(Kind.GET_FEATURE, *words))

    def set_features(self, domid: int, features: StoreFeature | int) -> None:
        """Set the features of a domain before it is introduced (SET_FEATURE). StoreError EBUSY after that."""
        wanted = arguments.natural("features", features, 2**31 - 1)
        self.request(Kind.SET_FEATURE, None, *numbers(arguments.domid(domid), wanted))

    def quotas(self, domid: int | None = None) -> dict[str, int]:
        """The quotas of a domain, or those of new domains (GET_QUOTA); 0 means no limit.

        The names depend on the daemon: "nodes", "watches", "transactions", "node-size" and others.
        StoreError ENOSYS before Xen 4.22.
        """
        (names,) = self.strings(Kind.GET_QUOTA, most=1)
        of = [] if domid is None else numbers(arguments.domid(domid))
        return {name: self._number(Kind.GET_QUOTA, *of, name.encode()) for name in names.split()}

    def set_quota(self, name: str, value: int, domid: int | None = None) -> None:
        """Set a quota of a domain, or of new domains (SET_QUOTA); 0 means no limit. EINVAL: unknown name."""
        if not name or not name.isascii() or not name.isprintable():
            raise ValueError(f"{name!r} is not the name of a quota")
        limit = arguments.natural("value", value, 2**31 - 1)
        of = [] if domid is None else numbers(arguments.domid(domid))
        self.request(Kind.SET_QUOTA, None, *of, name.encode(), *numbers(limit))

    def usage(self, domid: int) -> StoreUsage:
        """What a domain has of what xenstored limits: nodes, watches, transactions (control "quota").

        StoreError ENOENT: no such domain; EINVAL: this xenstored does not tell.
        """
        (found,) = self.usages([arguments.domid(domid)])
        if isinstance(found, StoreError):
            raise found
        return found

    def usages(self, domids: Iterable[int]) -> list[StoreUsage | StoreError]:
        """usage() of many domains, in their order; much faster than one after the other.

        For a domain of which xenstored does not tell, the reason. StoreError, raised, if it does not reply.
        """
        from pyxc.store.usage import StoreUsage

        # They change nothing, so that a read-only handle may ask, too. Xen may report any id.
        questions = [join([b"quota", *numbers(arguments.natural("domid", id, _ID_MOST))]) for id in domids]
        each = [(None, Request(Kind.CONTROL, question, 0)) for question in questions]
        found: list[StoreUsage | StoreError] = []
        for answer in self.ask_all(self.free_connection(), each):
            try:
                found.append(answer if isinstance(answer, StoreError) else StoreUsage.parse(_text(answer)))
            except StoreError as error:
                found.append(error)
        return found

    def _number(self, kind: Kind, *words: bytes) -> int:
        (text,) = self.strings(kind, *words, most=1)
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MOST):
            raise StoreError(errno.EPROTO, f"the reply is not a number: {text[:40]!r}", kind.operation)
        return int(text)

    def is_introduced(self, domid: int) -> bool:
        """Whether a domain can use xenstore."""
        return self.strings(Kind.IS_DOMAIN_INTRODUCED, *numbers(arguments.domid(domid)), most=1) == ["T"]

    def control(self, *words: str) -> str:
        """Send a command to the daemon, such as control("help"); the commands depend on the daemon."""
        return _text(self.request(Kind.CONTROL, None, *(word.encode() for word in words)))

    def __enter__(self) -> StoreClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "connected" if self.connected else "not connected"
        return f"<StoreClient, {state}>"


def _text(answer: bytes) -> str:
    return answer.rstrip(b"\0").decode(errors="replace")
