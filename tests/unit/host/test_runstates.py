# SPDX-License-Identifier: MIT
"""Times in runstates, from records in any order."""

from __future__ import annotations

import random
from array import array

import pytest
from hosts import Host

from pyxc import BUCKETS_US, OrderedRecords, Runstate, RunstateMeter, TraceRecord
from pyxc.abi import trace
from pyxc.errors import DecodeError
from pyxc.host.trace_records import decoded

KHZ = 1_000_000
"""A cycle is a nanosecond."""


def change(
    tsc: int, old: Runstate, new: Runstate, domid: int = 1, vcpu: int = 0, cpu: int = 0
) -> TraceRecord:
    event = trace.TRC_SCHED_RUNSTATE_CHANGE | old << 8 | new << 4
    return TraceRecord(cpu, event, tsc, (domid << 16 | vcpu,))


RUN, WAIT, BLOCK, OFF = Runstate


def test_times_add_up() -> None:
    meter = RunstateMeter(KHZ)
    meter.add(
        [change(100, BLOCK, WAIT), change(130, WAIT, RUN), change(200, RUN, OFF), change(900, OFF, RUN)]
    )
    states = meter.totals()[1, 0]
    assert states[:4] == (70, 30, 0, 700)
    meter.add([TraceRecord(1, 0x0801F001, 950, ())])
    assert meter.totals()[1, 0].running_ns == 120, "any record says how late it is"


def test_waits_after_waking_are_counted_and_preemption_is_not() -> None:
    meter = RunstateMeter(KHZ)
    meter.add(
        [change(0, BLOCK, WAIT), change(3000, WAIT, RUN), change(4000, RUN, WAIT), change(99000, WAIT, RUN)]
    )
    states = meter.totals()[1, 0]
    assert states.runnable_ns == 98000
    assert sum(states.waits) == states.waits[BUCKETS_US.index(5)] == 1
    assert states.longest_wait_ns == 3000


def test_a_wait_without_end_is_in_the_last_bucket() -> None:
    meter = RunstateMeter(KHZ)
    meter.add([change(0, BLOCK, WAIT), change(10**9, WAIT, RUN)])
    assert meter.totals()[1, 0].waits[-1] == 1


def test_idle_vcpus_are_no_domain() -> None:
    meter = RunstateMeter(KHZ)
    meter.add([change(1, RUN, WAIT, domid=0x7FFF)])
    assert meter.totals() == {}


def test_lost_records_are_counted() -> None:
    meter = RunstateMeter(KHZ)
    meter.add(
        [
            TraceRecord(0, trace.TRC_LOST_RECORDS, 5, (12, 0, 0, 0)),
            TraceRecord(0, trace.TRC_LOST_RECORDS, 6, ()),
        ]
    )
    assert meter.lost == 12


def test_forgotten() -> None:
    meter = RunstateMeter(KHZ)
    meter.add([change(1, RUN, WAIT), change(1, RUN, WAIT, domid=2)])
    meter.forget(1)
    assert list(meter.totals()) == [(2, 0)]


def test_a_clock_that_stands() -> None:
    with pytest.raises(ValueError):
        RunstateMeter(0)


def test_pieces_of_cpus_come_out_in_order() -> None:
    chance = random.Random(1)
    times = [sorted(chance.sample(range(10**6), 300)) for _ in range(4)]
    order, found, read = OrderedRecords(), [], [0] * 4
    for limit in range(0, 10**6, 20_000):
        pieces = []
        for cpu in range(4):  # each a little later than the one before
            until = [tsc for tsc in times[cpu] if tsc <= limit + 1000 * cpu]
            pieces += [TraceRecord(cpu, 0, tsc, ()) for tsc in until[read[cpu] :]]
            read[cpu] = len(until)
        found += order.add(pieces)
    found += order.rest()
    assert [one.tsc for one in found] == sorted(one.tsc for one in found if one.tsc is not None)
    assert len(found) == sum(read)


def test_a_record_without_a_time_has_that_of_the_one_before() -> None:
    order = OrderedRecords()
    found = order.add([TraceRecord(0, 1, 50, ()), TraceRecord(0, 2, None, ()), TraceRecord(1, 3, None, ())])
    found += order.rest()
    assert [(one.event, one.tsc) for one in found] == [(3, 0), (1, 50), (2, 50)]


@pytest.mark.parametrize("words", [[0x90021001, 1], [0x90021001, 1, 2], [0x70021001, 0]])
def test_a_record_that_is_cut(words: list[int]) -> None:
    with pytest.raises(DecodeError, match="cpu 3"):
        list(decoded(array("I", words), 3))


def test_unknown_events_are_passed_on() -> None:
    (found,) = decoded(array("I", [0x10ABC123, 5]), 0)
    assert (found.event, found.tsc, found.words, found.name) == (0xABC123, None, (5,), "unknown.0x00abc123")
    assert found.runstates is None and found.vcpu is None


def test_they_are_what_the_host_knows(host: Host) -> None:
    """The simulated hypervisor counts the times itself."""
    xen, truth = host.xen, host.truth
    vcpu = truth.domains[2].vcpus[0]
    assert vcpu is not None
    meter, order = RunstateMeter(xen.physinfo().cpu_khz), OrderedRecords()
    domain = xen.domains[2]
    with xen.trace_buffers.record() as reader:
        domain.pause()
        before = vcpu.times_ns.copy()
        found: list[TraceRecord] = []
        for _ in range(30):
            domain.unpause()
            xen.topology()
            domain.pause()
            reader.take(lambda cpu, data: found.extend(decoded(xen.words32(bytes(data)), cpu)))
            meter.add(order.add(found))
            found.clear()
        meter.add(order.rest())
    states = meter.totals()[2, 0]
    spent = [now - then for now, then in zip(vcpu.times_ns, before)]
    assert states.running_ns == pytest.approx(spent[RUN], abs=40_000)
    assert states.runnable_ns == states.blocked_ns == 0
