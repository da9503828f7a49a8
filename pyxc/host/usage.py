# SPDX-License-Identifier: MIT
"""The resources of the host and their use at one moment."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from pyxc import errors
from pyxc.abi.domctl import Scheduler
from pyxc.host import topology
from pyxc.host.host import Host
from pyxc.host.perfc import Counter, PerformanceCounters
from pyxc.host.physinfo import PhysInfo
from pyxc.host.pm import CStates, PowerManagement, PStates
from pyxc.host.pools import PoolInfo, Pools
from pyxc.host.topology import NumaNode

T = TypeVar("T")

_NO_STATES = (errno.ENODEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
"""Errors for: unknown to Xen, an offline cpu, not built in, forbidden."""


class HostUsage(NamedTuple):
    """The host at one moment. Threads: safe to share.

    `idle_ns` is how long each physical cpu has been idle since the boot. `c_states` and `p_states` have a cpu
    only if dom0's kernel has uploaded its states to Xen, `counters` are Xen's own performance counters.
    Fields that this Xen does not report are empty.

    Example:

    >>> host = xen.sample(full=True).details.host
    >>> host.scheduler, host.idle_ns
    (<Scheduler.CREDIT2: 6>, (45000000000, 43000000000))
    """

    physinfo: PhysInfo
    scheduler: Scheduler | int
    idle_ns: tuple[int, ...]
    nodes: tuple[NumaNode, ...]
    pools: tuple[PoolInfo, ...]
    c_states: dict[int, CStates]
    p_states: dict[int, PStates]
    counters: tuple[Counter, ...]


def read(xen: Host) -> HostUsage:
    """A hypercall for each fact; more only for the states of cpus, if there are any."""
    cpus = range(xen.nr_cpus)
    return HostUsage(
        xen.physinfo(),
        xen.scheduler,
        tuple(_unless_missing(lambda: topology.idle_ns(xen))),
        tuple(_unless_missing(lambda: topology.nodes(xen))),
        tuple(_unless_missing(lambda: Pools(xen).infos())),
        _states(PowerManagement(xen).c_states, cpus),
        _states(PowerManagement(xen).p_states, cpus),
        tuple(_unless_missing(lambda: PerformanceCounters(xen).read())),
    )


def _unless_missing(read: Callable[[], list[T]]) -> list[T]:
    """An empty list if this Xen does not have it, or its policy forbids it."""
    try:
        return read()
    except (errors.Unsupported, errors.PermissionDenied):
        return []


def _states(read: Callable[[int], T], cpus: Iterable[int]) -> dict[int, T]:
    """The states of each cpu that has any; if the first cpu has none, the others are not queried."""
    found: dict[int, T] = {}
    for cpu in cpus:
        try:
            found[cpu] = read(cpu)
        except errors.HypercallError as error:
            if error.errno not in _NO_STATES:
                raise
            if not cpu:
                break
    return found
