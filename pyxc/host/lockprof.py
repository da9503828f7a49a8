# SPDX-License-Identifier: MIT
"""The locks of a hypervisor that was built with lock profiling."""

from __future__ import annotations

from typing import NamedTuple

from pyxc.abi import lockprof
from pyxc.abi.lockprof import LockType
from pyxc.host.host import Host
from pyxc.host.version import text

_LOCKS_MOST = 1 << 19
"""Limit: more than any Xen has, with some for each domain."""
_MORE = 32
"""Locks of domains that may be created between the two questions, as many as xenlockprof expects."""


class Lock(NamedTuple):
    """How often a lock was taken, how often that had to wait, and how long both took.

    `type` is a LockType, and `idx` is the domain of a lock of a domain.

    Example:

    >>> str(pyxc.open("sim:xen-4.17-xsm").lockprof.read().locks[0])
    'global lock sysctl_lock'
    """

    name: str
    type: int
    idx: int
    lock_cnt: int
    block_cnt: int
    lock_time_ns: int
    block_time_ns: int

    def __str__(self) -> str:
        if self.type == LockType.GLOBAL:
            return f"global lock {self.name}"
        owner = "domain" if self.type == LockType.PERDOM else f"unknown type({self.type})"
        return f"{owner} {self.idx} lock {self.name}"


class LockProfile(NamedTuple):
    """The locks, and the time since they were reset. `nr_locks` is more than that if many came meanwhile.

    Example:

    >>> profile = pyxc.open("sim:xen-4.17-xsm").lockprof.read()
    >>> profile.nr_locks, len(profile.locks)
    (6, 6)
    """

    time_ns: int
    nr_locks: int
    locks: list[Lock]


class LockProfiling:
    """All locks of the hypervisor, as in `xenlockprof` (sysctl lockprof_op). Threads: safe to share.

    Unsupported before Xen 4.0, and in a hypervisor that was built without CONFIG_DEBUG_LOCK_PROFILE, like
    those of distributions.
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def read(self) -> LockProfile:
        """Every lock."""
        count = self._xen.call(lockprof.LOCKPROF_OP_QUERY).reported("nr_elem", _LOCKS_MOST) + _MORE
        layout = lockprof.LOCKPROF_DATA_STRUCT.at(self._xen.interface)
        reply = self._xen.call(lockprof.LOCKPROF_OP_QUERY, max_elem=count, data=count * layout.size)
        found = reply.reported("nr_elem", _LOCKS_MOST)
        data = reply.buffer("data")[: min(found, count) * layout.size]
        locks = [Lock(text(name), *rest) for name, *rest in layout.codec.iter_unpack(data)]
        return LockProfile(reply.field("time"), found, locks)

    def reset(self) -> None:
        """Reset all counts and times (sysctl lockprof_op reset)."""
        self._xen.call(lockprof.LOCKPROF_OP_RESET)

    def __repr__(self) -> str:
        return f"<LockProfiling of {self._xen.link.target}>"
