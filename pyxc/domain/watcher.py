# SPDX-License-Identifier: MIT
"""A stream of events: domains that are created, shut down or die."""

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
"""How long to wait for a xenstored that may not exist."""


class DomainChange(Enum):
    """What happened to a domain.

    DYING: it was destroyed, and remains while a process maps its memory; such a process should unmap it. A
    domain that ends at once has DIED without that event.
    """

    CREATED = "created"
    SHUT_DOWN = "shut down"
    DYING = "dying"
    DIED = "died"


class DomainEvent(NamedTuple):
    """An event of a domain. Threads: safe to share.

    `reason` is why it shut down; None for a dying or dead domain that was never seen shut down.

    Example:

    >>> with xen.watch_domains() as watcher:
    ...     web.destroy()
    ...     [(event.change.name, event.domid) for event in watcher.events(timeout=0)]
    [('DIED', 1)]
    """

    change: DomainChange
    domid: int
    uuid: UUID
    reason: ShutdownReason | int | None


Listing = Mapping[tuple[int, bytes], DomainInfo]
"""All domains at one moment by (domid, handle), because Xen reuses ids."""


def changes(before: Listing, after: Listing) -> list[DomainEvent]:
    """The events between two listings; the end of a domain comes before a new domain with its id."""
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
"""The trigger of checks."""


class _Source(Protocol):
    """The trigger of checks."""

    def fileno(self) -> int | None:
        """A descriptor to wait on, or None."""

    def drain(self) -> None:
        """Clear the trigger."""

    def close(self) -> None:
        """Stop listening."""


class _VirqSource:
    """The hypervisor's VIRQ_DOM_EXC, on request only: only one process can bind it, and xenstored does not
    start without it."""

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
    """xenstored's watches, if it has VIRQ_DOM_EXC: for domains that use xenstore, and only when one starts to
    die, so that its end may be found an interval later."""

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
    """No trigger: only the interval."""

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
"""All triggers."""
_TAKES_NOTHING: tuple[Source, ...] = ("xenstore", "poll")
"""Those that do not take VIRQ_DOM_EXC from another process, best first."""


class DomainWatcher:
    """Events of all domains since its creation: see Xen.watch_domains().

    Use `for event in watcher`, `async for event in watcher`, or wait(). It lists the domains at each trigger
    of its source, and after each interval without a trigger (sysctl getdomaininfolist); a domain that is
    created and dies between two lists is missed. Each event goes to one thread. Threads: safe to share; in a
    child after fork it refuses.

    Example:

    >>> watcher = xen.watch_domains()
    >>> web.shutdown("crash")
    >>> event = watcher.wait(timeout=10)
    >>> event.change.value, event.domid, event.reason
    ('shut down', 1, <ShutdownReason.CRASH: 3>)
    >>> watcher.close()
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
        """The next event; None if there is none within `timeout` seconds (0: check once)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            event = self._take()
            left = self.interval if deadline is None else deadline - time.monotonic()
            if event is not None or left <= 0:
                return event
            until_readable(self._source.fileno(), min(left, self.interval))

    def events(self, timeout: float | None = None) -> Iterator[DomainEvent]:
        """Iterate over events, until there is none for `timeout` seconds."""
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
        """A queued event, or one that a check finds.

        The source is cleared first: a trigger during the listing must cause another check.
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
        """Stop watching. May be called again, but not while another thread waits."""
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
    """The requested source, or the best that does not take VIRQ_DOM_EXC from xenstored."""
    if wanted is not None:
        return wanted, _SOURCES[wanted](xen)
    for name in _TAKES_NOTHING:
        try:
            return name, _SOURCES[name](xen)
        except errors.Error:
            continue
    raise AssertionError("polling is always possible")
