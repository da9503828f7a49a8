# SPDX-License-Identifier: MIT
"""What killed programs have left behind on a host, as far as it can be detected."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Literal, NamedTuple

from pyxc import errors
from pyxc.abi.domctl import DomainFlag
from pyxc.abi.sched import ShutdownReason
from pyxc.abi.sysctl_scheduler import TSLICE_MAX
from pyxc.domain.domains import Domains
from pyxc.domain.identity import Identity
from pyxc.domain.info import DomainInfo
from pyxc.domain.log_dirty import LogDirty
from pyxc.host.host import Host
from pyxc.host.pools import Pool, Pools
from pyxc.host.scheduling import CreditPoolParams
from pyxc.host.trace_buffers import TraceBuffers
from pyxc.store.names import readable

Kind = Literal[
    "paused", "suspended", "orphan", "dying", "debugged", "log-dirty", "tracing", "pool", "node",
    "transaction", "file", "unknown",
]  # fmt: skip
"""The kind of a leftover; "unknown" is something that could not be checked."""

_HOME, _POOLS = "/local/domain", "/local/pool"
_NO_SUCH_COMMAND = (errno.EINVAL, errno.ENOENT, errno.ENOSYS)


class Leftover(NamedTuple):
    """A possible leftover. `subject` names it, `found` says what was found, `remedy` how to remove it.

    `domid` is the id of the domain that it concerns, if any.
    """

    kind: Kind
    subject: str
    found: str
    remedy: str
    domid: int | None = None


def find(xen: Host) -> list[Leftover]:
    """All leftovers on a host. A check that fails does not hide others: it is reported as "unknown"."""
    return list(_found(xen))


def _found(xen: Host) -> Iterator[Leftover]:
    infos = Domains(xen).infos()
    homes: set[int] | None = None
    if xen.names.use:
        try:
            homes = _numbers(xen, _HOME)
        except errors.StoreError as error:
            yield _unknown("xenstore", error)
    for info in infos:
        if info.domid:
            yield from _looked_at(f"domain {info.domid}", partial(_domain, xen, info, homes))
    yield from _looked_at("the trace buffers", partial(_tracing, xen))
    yield from _looked_at("the cpu pools", partial(_pools, xen, homes is not None))
    if homes is not None:
        yield from _stale(_HOME, homes - {info.domid for info in infos}, "domain")
        yield from _looked_at("the transactions of xenstore", partial(_transactions, xen, infos))


def _looked_at(what: str, look: Callable[[], Iterable[Leftover]]) -> Iterator[Leftover]:
    """The results of a check; none if this Xen lacks the feature, or if the domain has just gone."""
    try:
        yield from look()
    except (errors.Unsupported, errors.DomainNotFound, errors.DomainGone):
        pass
    except errors.Error as error:
        yield _unknown(what, error)


def _unknown(what: str, error: errors.Error) -> Leftover:
    return Leftover("unknown", what, f"it cannot be checked: {error}", "try again")


def _domain(xen: Host, info: DomainInfo, homes: set[int] | None) -> Iterator[Leftover]:
    name = readable(xen.names.domain_name(info.domid, info.uuid)) if homes is not None else None
    subject = f"domain {info.domid}" + (f" ({name})" if name else "")
    if info.dying:
        text = "it is dying, and a process still maps its memory"
        yield Leftover("dying", subject, text, "end the program that maps it", info.domid)
        return
    if homes is not None and info.domid not in homes:
        text = (
            f"it is not in xenstore (UUID {info.uuid}): a program is building it, or that program has ended"
        )
        yield Leftover("orphan", subject, text, f"pyxc destroy {info.domid}", info.domid)
    elif info.paused:
        text = "it is paused, by a program that may have ended"
        yield Leftover("paused", subject, text, f"pyxc unpause {info.domid}", info.domid)
    if info.shutdown_reason == ShutdownReason.SUSPEND:
        text = "it has suspended, for a program that may have ended"
        yield Leftover("suspended", subject, text, f"pyxc resume {info.domid}", info.domid)
    if DomainFlag.DEBUGGED in info.flags:
        text = "it is debugged, by a program that may have ended and left breakpoints in its memory"
        remedy = f"pyxc gdb --writable {info.domid} and detach; breakpoints remain until it restarts"
        yield Leftover("debugged", subject, text, remedy, info.domid)
    if info.tot_pages and LogDirty(Identity(xen, info.domid, info.uuid)).seems_on():
        text = "it is in log-dirty mode, for a program that may have ended"
        remedy = f"xen.domains[{info.domid}].log_dirty.disable(), unless it is being saved or migrated"
        yield Leftover("log-dirty", subject, text, remedy, info.domid)


def _tracing(xen: Host) -> Iterator[Leftover]:
    size = TraceBuffers(xen).unread_bytes()
    if size:
        text = f"{size} bytes of records are unread: tracing is on or was, for a program that may have ended"
        yield Leftover("tracing", "the trace buffers", text, "pyxc trace off")


def _pools(xen: Host, names: bool) -> Iterator[Leftover]:
    infos = Pools(xen).infos()
    for info in infos:
        subject = f"cpu pool {info.pool_id}"
        if names and xen.names.pool_name(info.pool_id, strictly=True) is None:
            remedy = f"pyxc cpupool-destroy {info.pool_id}, or pyxc cpupool-rename {info.pool_id} NAME"
            yield Leftover("pool", subject, "it has no name", remedy)
        if _is_slow(Pool(xen, info.pool_id)):
            text = f"its time slice is {TSLICE_MAX} ms, as during the removal of its last cpu"
            yield Leftover("pool", subject, text, f"xen.pools[{info.pool_id}].set_scheduling(tslice_ms=30)")
    if names:
        yield from _stale(_POOLS, _numbers(xen, _POOLS) - {info.pool_id for info in infos}, "cpu pool")


def _is_slow(pool: Pool) -> bool:
    params = pool.scheduling()
    return isinstance(params, CreditPoolParams) and params.tslice_ms == TSLICE_MAX


def _numbers(xen: Host, top: str) -> set[int]:
    """The ids with nodes."""
    return {int(name) for name in xen.store.list(top) or () if name.isascii() and name.isdigit()}


def _stale(top: str, numbers: set[int], what: str) -> Iterator[Leftover]:
    """Nodes of domains or pools that have gone."""
    for number in sorted(numbers):
        path = f"{top}/{number}"
        text = f"no {what} has this id; the next one would inherit these nodes"
        yield Leftover("node", path, text, f"pyxc store rm {path}")


def _transactions(xen: Host, infos: list[DomainInfo]) -> Iterator[Leftover]:
    """Transactions of guests, if xenstored counts them: those of dom0 end with their connections."""
    for info, used in zip(infos, xen.store.usages(info.domid for info in infos)):
        if isinstance(used, errors.StoreError):
            if used.errno not in _NO_SUCH_COMMAND:
                raise used
        elif used.transactions:
            text = f"it has {used.transactions} open transactions in xenstore"
            yield Leftover(
                "transaction", f"domain {info.domid}", text, "end the program that started them", info.domid
            )
