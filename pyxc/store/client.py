# SPDX-License-Identifier: MIT
"""A client of xenstore."""

from __future__ import annotations

import errno
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from pyxc import arguments
from pyxc.errors import StoreError
from pyxc.store.session import Session, numbers
from pyxc.store.transaction import Transaction
from pyxc.store.watch import Watch
from pyxc.store.wire import Kind, StoreFeature

T = TypeVar("T")

_COMMITS = 100
_DIGITS_MOST = 10


class StoreClient(Session):
    """xenstore, through a connection of its own that is made when it is first needed.

    `with StoreClient() as store:` is the xenstore of this host; a Xen handle has one in `xen.store`. Each
    request ends within `timeout` seconds, since in a dom0 without xenstored the kernel's device takes
    requests and never answers. A connection that failed stays so: open another client.

    Threads: one may be used by many; requests do not wait for each other. After a fork only the parent may
    use it.
    """

    def transact(self, change: Callable[[Transaction], T]) -> T:
        """Call `change` with a transaction and commit it; call it again when another change came first.

        Returns what the last call did. What `change` raises aborts the transaction. StoreError EAGAIN when a
        hundred commits in a row came too late.

        >>> def count(tx):
        ...     tx.write("/tool/runs", str(int(tx.read("/tool/runs") or 0) + 1))
        >>> store.transact(count)
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
        """A transaction to be committed or aborted by hand; transact() does that, and repeats."""
        return Transaction.begin(self)

    def watch(self, *paths: str, depth: int | None = None) -> Watch:
        """Watch paths, or @introduceDomain and @releaseDomain; see Watch, and Watch.add() for `depth`."""
        made = Watch(self, self.free_connection())
        try:
            for path in paths:
                made.add(path, depth=depth)
        except BaseException:
            made.close()
            raise
        return made

    def introduce(self, domid: int, frame: int, port: int) -> None:
        """Let a domain use xenstore: over its frame (gfn) of ring and its unbound event channel port."""
        arguments.natural("frame", frame, 2**63 - 1)
        arguments.natural("port", port, 2**31 - 1)
        self.request(Kind.INTRODUCE, None, *numbers(arguments.domid(domid), frame, port))

    def release(self, domid: int) -> None:
        """End a domain's use of xenstore; fires @releaseDomain."""
        self.request(Kind.RELEASE, None, *numbers(arguments.domid(domid)))

    def resume(self, domid: int) -> None:
        """Let @releaseDomain fire anew when a domain that was shut down and resumed shuts down again."""
        self.request(Kind.RESUME, None, *numbers(arguments.domid(domid)))

    def set_target(self, domid: int, target: int) -> None:
        """Give a domain, such as a device model's, the rights that another one has."""
        self.request(Kind.SET_TARGET, None, *numbers(arguments.domid(domid), arguments.domid(target)))

    def features(self, domid: int | None = None) -> StoreFeature:
        """What xenstored can do for this connection, or lets a domain do (GET_FEATURE).

        StoreError ENOSYS before Xen 4.22; ENOENT: no such domain.
        """
        words = [] if domid is None else numbers(arguments.domid(domid))
        return StoreFeature(self._number(Kind.GET_FEATURE, *words))

    def set_features(self, domid: int, features: StoreFeature | int) -> None:
        """What a domain that is not introduced yet may use (SET_FEATURE). StoreError EBUSY after that."""
        wanted = arguments.natural("features", features, 2**31 - 1)
        self.request(Kind.SET_FEATURE, None, *numbers(arguments.domid(domid), wanted))

    def quotas(self, domid: int | None = None) -> dict[str, int]:
        """How much of each thing a domain may have, or those that come may (GET_QUOTA); 0 is without limit.

        Which there are depends on the daemon: "nodes", "watches", "transactions", "node-size" and others.
        StoreError ENOSYS before Xen 4.22.
        """
        (names,) = self.strings(Kind.GET_QUOTA, most=1)
        of = [] if domid is None else numbers(arguments.domid(domid))
        return {name: self._number(Kind.GET_QUOTA, *of, name.encode()) for name in names.split()}

    def set_quota(self, name: str, value: int, domid: int | None = None) -> None:
        """Limit one thing for a domain, or for all that come (SET_QUOTA); 0 is no limit. EINVAL: unknown."""
        if not name or not name.isascii() or not name.isprintable():
            raise ValueError(f"{name!r} is no name of a quota")
        limit = arguments.natural("value", value, 2**31 - 1)
        of = [] if domid is None else numbers(arguments.domid(domid))
        self.request(Kind.SET_QUOTA, None, *of, name.encode(), *numbers(limit))

    def _number(self, kind: Kind, *words: bytes) -> int:
        (text,) = self.strings(kind, *words, most=1)
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MOST):
            raise StoreError(errno.EPROTO, f"an answer that is no number: {text[:40]!r}", kind.operation)
        return int(text)

    def is_introduced(self, domid: int) -> bool:
        """Whether a domain can use xenstore."""
        return self.strings(Kind.IS_DOMAIN_INTRODUCED, *numbers(arguments.domid(domid)), most=1) == ["T"]

    def control(self, *words: str) -> str:
        """A command to the daemon, such as control("help"); which there are depends on the daemon."""
        answer = self.request(Kind.CONTROL, None, *(word.encode() for word in words))
        return answer.rstrip(b"\0").decode(errors="replace")

    def __enter__(self) -> StoreClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "connected" if self.connected else "not connected"
        return f"<StoreClient, {state}>"
