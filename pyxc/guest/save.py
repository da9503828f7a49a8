# SPDX-License-Identifier: MIT
"""Saving a guest, running or stopped: its memory and state as the stream that Xen's own tools read."""

from __future__ import annotations

import errno
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from pyxc import arguments, errors, undoing
from pyxc.abi import sched
from pyxc.abi.sched import ShutdownReason
from pyxc.domain.identity import Identity
from pyxc.domain.info import DomainInfo
from pyxc.files.provenance import DomainOrigin, XenOrigin
from pyxc.files.sinks import Compression, Pace, Sink, Writable, check_compression
from pyxc.files.writer import Keep, KeepName, ProvenanceFile
from pyxc.guest import settings, stream
from pyxc.guest.stream.records import ByteOrder
from pyxc.host.cpu_policy import domain_policy
from pyxc.store.names import readable

if TYPE_CHECKING:  # imported for the kind of guest, and for the way in which it is saved
    import socket

    from pyxc.domain.log_dirty import LogDirty
    from pyxc.guest.save_hvm import HvmGuest
    from pyxc.guest.save_pv import PvGuest

KIND = "save"
Target: TypeAlias = "str | os.PathLike[str] | Writable | socket.socket"
Suspend = Literal["ask", "force"]
Compress = Compression
"""How a saved guest may be compressed; see pyxc.files.sinks."""

_MAGICS = (b"Xen saved domain, xl format\n", b"LibxlFmt", b"\xff" * 8 + b"XENF")
_LOCAL_APIC_ONLY = 1
_LEAST_BYTES_PER_S = 1 << 12
_MOST_BYTES_PER_S = 1 << 50
_NONE = array("Q")


class Live(NamedTuple):
    """When to stop a guest that is saved while it runs: as soon as one of these limits is reached.

    `max_downtime_s`: sending the remaining pages is estimated to take no longer. `max_rounds`: the number of
    rounds that send the pages written in the round before. `max_s`: the time since the start.

    Example:

    >>> live = pyxc.Live(max_downtime_s=0.05)
    >>> db1.save("live.save", live=live, suspend="force", resume=True).rounds
    0
    """

    max_downtime_s: float = 0.3
    max_rounds: int = 5
    max_s: float = 600.0


class SaveProgress(NamedTuple):
    """The progress of a save: `round` 0 sends all pages, later rounds those written in the round before.

    `dirty_pages` and `expected_downtime_s` are known between two rounds of a live save, else None.

    Example:

    >>> def report(progress):
    ...     if progress.done_pages == progress.total_pages:
    ...         print(progress.done_pages, "pages")
    >>> saved = db1.save("reported.save", suspend="force", resume=True, progress=report)
    32776 pages
    """

    round: int
    done_pages: int
    total_pages: int
    sent_bytes: int
    dirty_pages: int | None = None
    expected_downtime_s: float | None = None


class Saved(NamedTuple):
    """The statistics of a save: `pages` sent, including pages sent again, in `rounds` while it ran.

    `sent_bytes` as they left, compressed if so. The guest was stopped for `downtime_s`, of `total_s`, which
    counts from where it took the request to suspend.
    """

    pages: int
    rounds: int
    sent_bytes: int
    downtime_s: float
    total_s: float


Progress = Callable[[SaveProgress], object]


class Wanted(NamedTuple):
    """How to save a guest, as Domain.save() takes it."""

    live: bool | Live
    suspend: Suspend
    timeout: float
    resume: bool
    compress: str | None
    replace: bool
    provenance: KeepName
    progress: Progress | None
    max_bytes_per_s: int | None


def save(domain: Identity, target: Target, wanted: Wanted, after: ExitStack | None = None) -> Saved:
    """See Domain.save(). `after` ends what the guest does not have to wait for: log-dirty mode."""
    info = check(domain, wanted)
    compression = check_compression(wanted.compress)
    fast = True if wanted.suspend == "ask" else None
    before = info.shutdown_reason is ShutdownReason.SUSPEND

    def undo() -> None:
        if not before:
            from pyxc.domain.resume import continue_here

            continue_here(domain, fast)

    with undoing.on_failure(undo, f"domain {domain.domid} is left suspended"):
        with ExitStack() as block:
            sink = block.enter_context(_opened(domain, info, target, compression, wanted))
            saved = _Saver(domain, info, sink, wanted).save(block if after is None else after)
        if wanted.resume:
            undo()
    return saved


def check(domain: Identity, wanted: Wanted) -> DomainInfo:
    """Check everything that can be checked before any change."""
    xen = domain.xen
    if domain.domid == xen.own_domid:
        raise ValueError("a domain cannot save itself")
    _check_limits(wanted)
    xen.check_writable("saving a domain")
    info = domain.info()
    reason = info.shutdown_reason
    if reason not in (None, ShutdownReason.SUSPEND):
        raise errors.GuestUnable(f"domain {info.domid} has shut down ({reason!r}): it cannot be saved")
    if wanted.suspend == "force" and reason is None and not info.is_hvm:
        raise errors.GuestUnable(f"domain {info.domid} is a PV guest: only the guest itself can suspend it")
    hint = ""
    if xen.interface.arch != "x86_64":
        hint = "guests are saved on x86"
    elif (info.emulation_flags or 0) & ~_LOCAL_APIC_ONLY:
        hint = "it has a device model, whose state only that knows"
    if hint:
        raise errors.Unsupported(errno.EOPNOTSUPP, "saving a domain", info.domid, hint=hint)
    return info


def _check_limits(wanted: Wanted) -> None:
    if wanted.suspend not in ("ask", "force"):
        raise ValueError(f"suspend is {wanted.suspend!r}: expected ask or force")
    if not wanted.timeout >= 0:
        raise ValueError(f"timeout is {wanted.timeout}: it must not be negative")
    if isinstance(wanted.live, Live):
        arguments.natural("max_rounds", wanted.live.max_rounds, 1000)
    if wanted.max_bytes_per_s is not None:
        arguments.natural("max_bytes_per_s", wanted.max_bytes_per_s, _MOST_BYTES_PER_S, _LEAST_BYTES_PER_S)


@contextmanager
def _opened(
    domain: Identity, info: DomainInfo, target: Target, compression: Compression | None, wanted: Wanted
) -> Iterator[Sink]:
    """The destination of the stream. A named file appears, complete, at the end of the block."""
    if not isinstance(target, str | os.PathLike):
        sink = Sink(target, compression)
        yield sink
        sink.finish()
        return
    keep, release = Keep(wanted.provenance), ".".join(map(str, domain.xen.interface.xen))
    with ProvenanceFile(target, KIND, keep=keep, recognize=is_saved, replace=wanted.replace) as file:
        file.note(
            domain=DomainOrigin(domain.domid, str(domain.uuid), readable(name_of(domain))),
            xen=XenOrigin(release, domctl=domain.xen.interface.number("domctl") or None),
        )
        with file.discarded_if_full():
            sink = Sink(file.stream, compression)
            yield sink
            sink.finish()
            file.complete()


def name_of(domain: Identity) -> str | None:
    """Its name, which is read once."""
    if domain._name is None:
        domain._name = domain.xen.names.domain_name(domain.domid, domain.uuid)
    return domain._name


def is_saved(head: bytes) -> bool:
    """Whether a file that begins like this is a saved guest, not compressed."""
    return head.startswith(_MAGICS)


class _Saver:
    """Threads: one at a time."""

    def __init__(self, domain: Identity, info: DomainInfo, sink: Sink, wanted: Wanted) -> None:
        self._domain = domain
        self._info = info
        self._sink = sink
        self._wanted = wanted
        self._live = Live() if wanted.live is True else wanted.live or None
        self._writer = stream.Writer()
        self._guest = self._of_its_kind()
        self._guest.pages.copies = not sink.reads_once
        self._pace = Pace(wanted.max_bytes_per_s) if wanted.max_bytes_per_s else None
        sink.pace = self._pace
        self._began = time.monotonic()
        self._sent_pages = 0
        self._round = 0

    def _of_its_kind(self) -> HvmGuest | PvGuest:
        if self._info.is_hvm:
            from pyxc.guest.save_hvm import HvmGuest

            return HvmGuest(self._domain, self._send)
        from pyxc.guest.save_pv import PvGuest

        return PvGuest(self._domain, self._info, self._send)

    def save(self, block: ExitStack) -> Saved:
        """Write the stream. Contexts entered into `block` end with it."""
        self._begin()
        stopped = self._info.shutdown_reason is not None
        if self._live is None or stopped:
            since = self._suspend()
            self._send_changed_layout()
            self._send_round(self._guest.pages.send_all(running=False), self._info.tot_pages)
        else:
            from pyxc.domain.log_dirty import LogDirty

            log = block.enter_context(LogDirty(self._domain))
            self._send_while_it_runs(log, self._live)
            self._sink.pace = None  # the guest is down while the rest is sent
            since = self._suspend()
            self._send_dirty(log, final=True, changed=self._send_changed_layout())
        self._end()
        now = time.monotonic()
        return Saved(self._sent_pages, self._round, self._sink.sent_bytes, now - since, now - self._began)

    def _send(self, event: stream.Event) -> None:
        self._sink.write(self._writer.encode(event))

    def _send_all(self, events: Iterable[stream.Event]) -> None:
        for event in events:
            self._send(event)

    def _begin(self) -> None:
        """Write the headers, and what does not change while the guest runs."""
        domain, interface = self._domain, self._domain.xen.interface
        order: ByteOrder = "little" if interface.byteorder == "little" else "big"
        config = settings.encode(domain, self._info, name_of(domain))
        self._send(stream.XlHeader(order, stream.XlFlag.JSON | stream.XlFlag.STREAM_V2, config))
        self._send(stream.LibxlHeader(order))
        self._send(stream.LibxcContext())
        self._send(stream.ImageHeader(order))
        self._send(stream.DomainHeader(self._guest.kind, *interface.xen[:2]))
        self._send_all(self._guest.static())
        try:
            policy = domain_policy(domain.xen, domain.domid)
        except errors.Unsupported:
            policy = None
        if policy is not None:
            self._send(stream.CpuidPolicy(policy.leaves))
            self._send(stream.MsrPolicy(policy.msrs))
        self._send(stream.StaticDataEnd())
        self._send_all(self._guest.layout())

    def _suspend(self) -> float:
        """Stop the guest, unless it has stopped; returns the time at which that began."""
        since = time.monotonic()
        if self._info.shutdown_reason is not None:
            return since
        if self._wanted.suspend == "ask":
            from pyxc.domain.ask import Ask

            return Ask(self._domain).stop_to_move(self._wanted.timeout)
        self._domain.change(sched.REMOTE_SHUTDOWN, reason=int(ShutdownReason.SUSPEND))
        return since

    def _send_while_it_runs(self, log: LogDirty, live: Live) -> None:
        """Send pages in rounds, until few remain or one of the limits is reached."""
        self._send_round(self._guest.pages.send_all(running=True), self._info.tot_pages)
        while self._round < live.max_rounds:
            dirty = log.peek().dirty
            took = time.monotonic() - self._began
            sending = took - (self._pace.waited_s if self._pace else 0.0)
            downtime = dirty * sending / max(1, self._sent_pages)
            self._tell(0, dirty, dirty, downtime)
            if downtime <= live.max_downtime_s or took >= live.max_s:
                return
            self._round += 1
            self._send_dirty(log, final=False)

    def _send_changed_layout(self) -> array[int]:
        """Returns the pages that must be sent again."""
        events, changed = self._guest.changed_layout()
        self._send_all(events)
        return changed

    def _send_dirty(self, log: LogDirty, final: bool, changed: array[int] = _NONE) -> None:
        frames = log.clean(final=final).frames() + changed
        self._send_round(self._guest.pages.send_some(frames, running=not final), len(frames))

    def _send_round(self, counts: Iterator[int], total: int) -> None:
        done = 0
        for count in counts:
            done += count
            self._sent_pages += count
            self._tell(done, total)

    def _tell(self, done: int, total: int, dirty: int | None = None, downtime: float | None = None) -> None:
        if self._wanted.progress is not None:
            sent = self._sink.sent_bytes
            self._wanted.progress(SaveProgress(self._round, done, max(done, total), sent, dirty, downtime))

    def _end(self) -> None:
        """Write what is only known once the guest has stopped."""
        self._send_all(self._guest.state())
        self._send(stream.LibxcEnd())
        self._send(stream.LibxlEnd())
        self._domain.look()  # a file holds one domain
