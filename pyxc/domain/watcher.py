# SPDX-License-Identifier: MIT
"""Domains that come, shut down, die and go, as a stream of events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from enum import Enum
from threading import Lock
from types import TracebackType
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from pyxc import errors
from pyxc.abi.event_channel import Virq
from pyxc.abi.sched import ShutdownReason
from pyxc.domain.domains import Domains
from pyxc.domain.info import DomainInfo
from pyxc.host.events import EventChannels
from pyxc.host.host import Host
from pyxc.store import StoreClient
from pyxc.waiting import until_readable, until_readable_async

_PATIENCE_S = 1.0
"""How long to wait for a xenstored that may not be there."""


class DomainChange(Enum):
    """What happened to a domain.

    DYING: it was destroyed, and stays as long as somebody maps its memory; who does so should let go. One
    that ends at once DIED without that.
    """

    CREATED = "created"
    SHUT_DOWN = "shut down"
    DYING = "dying"
    DIED = "died"


class DomainEvent(NamedTuple):
    """Something that happened to a domain. Frozen: safe in any thread.

    `reason` is why it shut down; of a domain that is dying or died None when it was never seen shut down.
    """

    change: DomainChange
    domid: int
    uuid: UUID
    reason: ShutdownReason | int | None


Listing = Mapping[tuple[int, bytes], DomainInfo]
"""All domains at one moment by (domid, handle): an id alone is used again."""


def changes(before: Listing, after: Listing) -> list[DomainEvent]:
    """What happened between two listings; the end of one domain comes before another one with its id."""
    found = [_event(DomainChange.DIED, before[key]) for key in before if key not in after]
    for key, info in after.items():
        known = before.get(key)
        if known is None:
            found.append(_event(DomainChange.CREATED, info)._replace(reason=None))
        if info.shutdown_reason not in (None, known and known.shutdown_reason):
            found.append(_event(DomainChange.SHUT_DOWN, info))
        if info.dying and not (known and known.dying):
            found.append(_event(DomainChange.DYING, info))
    return found


def _event(change: DomainChange, info: DomainInfo) -> DomainEvent:
    return DomainEvent(change, info.domid, info.uuid, info.shutdown_reason)


Source = Literal["virq", "xenstore", "poll"]
"""What says when to look."""


class _Source(Protocol):
    """What says when to look."""

    def fileno(self) -> int | None:
        """What to wait on, None where nothing says anything."""

    def drain(self) -> None:
        """Forget what it has said."""

    def close(self) -> None:
        """Listen no more."""


class _VirqSource:
    """The hypervisor's own word, VIRQ_DOM_EXC, on request: it has one holder, and xenstored does not start
    where somebody else is that."""

    def __init__(self, xen: Host) -> None:
        self._channels = EventChannels(xen)
        self.fileno = self._channels.fileno
        self.close = self._channels.close
        try:
            self._channels.bind_virq(Virq.DOM_EXC)
        except BaseException:
            self.close()
            raise

    def drain(self) -> None:
        while self._channels.wait(0) is not None:
            pass


class _StoreSource:
    """xenstored's word, where it has the hypervisor's: of domains that use xenstore, and only of the moment
    when one begins to die, so that its end may be found an interval later."""

    def __init__(self, xen: Host) -> None:
        self._store = StoreClient(xen.link.connect_store, readonly=True, timeout=_PATIENCE_S)
        self.close = self._store.close
        try:
            self._watch = self._store.watch("@introduceDomain", "@releaseDomain")
            self.fileno = self._watch.fileno
        except BaseException:
            self.close()
            raise

    def drain(self) -> None:
        while self._watch.get(0) is not None:
            pass


class _PollSource:
    """Nothing: it is time alone that says when to look."""

    def __init__(self, xen: Host) -> None:
        pass

    def fileno(self) -> None:
        return None

    def drain(self) -> None:
        pass

    def close(self) -> None:
        pass


_SOURCES: dict[Source, Callable[[Host], _Source]] = {
    "virq": _VirqSource,
    "xenstore": _StoreSource,
    "poll": _PollSource,
}
"""What can say when to look."""
_TAKES_NOTHING: tuple[Source, ...] = ("xenstore", "poll")
"""Those that take nothing from anybody, the best first."""


class DomainWatcher:
    """Events of all domains from its making on: see Xen.watch_domains().

    `for event in watcher`, `async for event in watcher`, or wait(). It lists the domains each time its source
    says that something happened, and whenever nothing was said for the interval (sysctl getdomaininfolist):
    what comes and goes in between is missed. Threads: may be used by many; each event goes to one. After a
    fork only the parent may use it.
    """

    def __init__(self, xen: Host, source: Source | None = None, interval: float = 1.0) -> None:
        if source is not None and source not in _SOURCES:
            raise ValueError(f"source is {source!r}: expected one of {', '.join(_SOURCES)}, or None")
        if interval <= 0:
            raise ValueError(f"interval is {interval}: expected more than 0 seconds")
        self.interval = interval
        self._xen = xen
        self._domains = Domains(xen)
        self._lock = Lock()
        self._waiting: deque[DomainEvent] = deque()
        self._open = True
        self.source, self._source = _open_source(xen, source)
        try:
            self._known = self._list()
        except BaseException:
            self.close()
            raise

    def wait(self, timeout: float | None = None) -> DomainEvent | None:
        """The next event; None when there is none for `timeout` seconds (0: look once)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            event = self._take()
            left = self.interval if deadline is None else deadline - time.monotonic()
            if event is not None or left <= 0:
                return event
            until_readable(self._source.fileno(), min(left, self.interval))

    def events(self, timeout: float | None = None) -> Iterator[DomainEvent]:
        """Events as they come, until none has come for `timeout` seconds."""
        while (event := self.wait(timeout)) is not None:
            yield event

    def __iter__(self) -> Iterator[DomainEvent]:
        return self.events()

    def __aiter__(self) -> AsyncIterator[DomainEvent]:
        return self._stream()

    async def _stream(self) -> AsyncIterator[DomainEvent]:
        while True:
            event = self._take()
            if event is None:
                await until_readable_async(self._source.fileno(), self.interval)
            else:
                yield event

    def _take(self) -> DomainEvent | None:
        """An event that is known, or that a look finds.

        The source is drained first: what it says while the domains are listed calls for another look.
        """
        if not self._open:
            raise ValueError("this watcher is closed")
        with self._lock:
            if not self._waiting:
                self._source.drain()
                now = self._list()
                self._waiting.extend(changes(self._known, now))
                self._known = now
            return self._waiting.popleft() if self._waiting else None

    def _list(self) -> Listing:
        return {(info.domid, info.handle): info for info in self._domains.infos()}

    def close(self) -> None:
        """Listen no more. More than once is allowed; not while another thread waits."""
        self._open = False
        self._source.close()

    def __enter__(self) -> DomainWatcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DomainWatcher of {self._xen.link.target} by {self.source}>"


def _open_source(xen: Host, wanted: Source | None) -> tuple[Source, _Source]:
    """The source that is wanted, or the best that takes VIRQ_DOM_EXC from no xenstored."""
    if wanted is not None:
        return wanted, _SOURCES[wanted](xen)
    for name in _TAKES_NOTHING:
        try:
            return name, _SOURCES[name](xen)
        except errors.Error:
            continue
    raise AssertionError("polling is always possible")
