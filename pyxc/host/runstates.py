# SPDX-License-Identifier: MIT
"""How long vcpus were in each state, and how long they waited for a cpu, from trace records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pyxc.abi.trace import Runstate
from pyxc.host.trace_records import TraceRecord, lost

_IDLE = 0x7FF0
"""Ids from here on are not domains: the idle vcpus."""
BUCKETS_US = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
"""Upper ends of the histogram of waits; the last bucket has no end."""


class Runstates(NamedTuple):
    """Nanoseconds that a vcpu was in each state since it was first seen. Threads: safe to share.

    `runnable_ns` is steal: it could run, but had no physical cpu. `waits` counts its waits after wake-ups by
    length, in buckets that end at BUCKETS_US; `longest_wait_ns` is the longest.

    Example:

    >>> meter = pyxc.RunstateMeter(xen.physinfo().cpu_khz)
    >>> len(meter.totals())
    0
    """

    running_ns: int
    runnable_ns: int
    blocked_ns: int
    offline_ns: int
    waits: tuple[int, ...]
    longest_wait_ns: int


class _Vcpu:
    def __init__(self, tsc: int, state: Runstate) -> None:
        self.since = tsc
        self.state = state
        self.cycles = [0, 0, 0, 0]
        self.woken = False
        self.waits = [0] * (len(BUCKETS_US) + 1)
        self.longest = 0


class RunstateMeter:
    """Adds up changes of runstates in the order of their time. Threads: one at a time.

    `cpu_khz` is the frequency of the time of records: xen.physinfo().cpu_khz. `lost` counts records that Xen
    could not write; their time is added to the last known states.

    Example:

    >>> from pyxc.host.trace_records import decoded
    >>> meter, order, records = pyxc.RunstateMeter(xen.physinfo().cpu_khz), pyxc.OrderedRecords(), []
    >>> with xen.trace_buffers.record(pyxc.TraceClass.SCHED_MIN) as reader:
    ...     db1.pause()
    ...     reader.take(lambda cpu, data: records.extend(decoded(xen.words32(bytes(data)), cpu)))
    >>> meter.add(order.add(records))
    >>> meter.add(order.rest())
    >>> meter.totals()[2, 0].runnable_ns
    0
    """

    def __init__(self, cpu_khz: int) -> None:
        if cpu_khz <= 0:
            raise ValueError(f"cpu_khz is {cpu_khz}: expected more than 0")
        self._khz = cpu_khz
        self._vcpus: dict[tuple[int, int], _Vcpu] = {}
        self._now = 0
        self.lost = 0

    def add(self, records: Iterable[TraceRecord]) -> None:
        """Add records in the order of their time, from Ordered; all records advance the time."""
        for record in records:
            self._now = max(self._now, record.tsc or 0)
            self.lost += lost(record)
            states, who = record.runstates, record.vcpu
            if states and who and record.tsc is not None and who[0] < _IDLE:
                self._change(who, record.tsc, *states)

    def _change(self, who: tuple[int, int], tsc: int, old: Runstate, new: Runstate) -> None:
        vcpu = self._vcpus.get(who)
        if vcpu is None:
            vcpu = self._vcpus[who] = _Vcpu(tsc, old)
        spent = max(0, tsc - vcpu.since)
        vcpu.cycles[old] += spent
        if vcpu.woken and new is Runstate.RUNNING:
            self._waited(vcpu, self._ns(spent))
        vcpu.woken = new is Runstate.RUNNABLE and old is Runstate.BLOCKED
        vcpu.since, vcpu.state = max(vcpu.since, tsc), new

    def _waited(self, vcpu: _Vcpu, wait_ns: int) -> None:
        index = sum(wait_ns > end * 1000 for end in BUCKETS_US)
        vcpu.waits[index] += 1
        vcpu.longest = max(vcpu.longest, wait_ns)

    def _ns(self, cycles: int) -> int:
        return cycles * 10**6 // self._khz

    def totals(self) -> dict[tuple[int, int], Runstates]:
        """The times of each vcpu, by domain and number, up to the last record."""
        found = {}
        for who, vcpu in sorted(self._vcpus.items()):
            cycles = vcpu.cycles.copy()
            cycles[vcpu.state] += max(0, self._now - vcpu.since)
            running, runnable, blocked, offline = map(self._ns, cycles)
            found[who] = Runstates(running, runnable, blocked, offline, tuple(vcpu.waits), vcpu.longest)
        return found

    def forget(self, domid: int) -> None:
        """Forget a domain that has gone."""
        self._vcpus = {who: vcpu for who, vcpu in self._vcpus.items() if who[0] != domid}
