# SPDX-License-Identifier: MIT
"""Trace buffers of a real Xen, beside what it says of cpu time."""

from __future__ import annotations

import time

import pytest

import pyxc
from pyxc.host.trace_records import decoded

pytestmark = pytest.mark.usefixtures("traceable")


def _measure(xen: pyxc.Xen, seconds: float) -> tuple[pyxc.RunstateMeter, pyxc.Sample, pyxc.Sample]:
    """Runstates, with samples from before and after."""
    meter, order = pyxc.RunstateMeter(xen.physinfo().cpu_khz), pyxc.OrderedRecords()
    found: list[pyxc.TraceRecord] = []
    with xen.trace_buffers.record(pyxc.TraceClass.SCHED_MIN) as reader:
        before = xen.sample()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.05)
            reader.take(lambda cpu, data: found.extend(decoded(xen.words32(bytes(data)), cpu)))
            meter.add(order.add(found))
            found.clear()
        after = xen.sample()
    meter.add(order.rest())
    return meter, before, after


def test_runstates_are_the_cpu_time_that_xen_counts(xen: pyxc.Xen) -> None:
    meter, before, after = _measure(xen, 2)
    assert meter.lost == 0
    elapsed_ns = after.time_ns - before.time_ns
    ran = {vcpu.vcpu: vcpu.cpu_time_ns for vcpu in after.vcpus if vcpu.domid == 0}
    for vcpu in before.vcpus:
        states = meter.totals().get((0, vcpu.vcpu))
        if vcpu.domid == 0 and states is not None:
            assert states.running_ns == pytest.approx(ran[vcpu.vcpu] - vcpu.cpu_time_ns, abs=elapsed_ns / 10)
    assert (0, 0) in meter.totals()


def test_tracing_is_off_afterwards(xen: pyxc.Xen) -> None:
    found: list[int] = []
    with xen.trace_buffers.record():
        pass
    with xen.trace_buffers.open() as reader:
        reader.take(lambda cpu, data: None)
        time.sleep(0.2)
        reader.take(lambda cpu, data: found.append(len(data)))
    assert found == []


def test_tracing_that_was_left_on_is_found(xen: pyxc.Xen) -> None:
    def found() -> list[str]:
        return [left.remedy for left in xen.leftovers() if left.kind == "tracing"]

    buffers = xen.trace_buffers
    with buffers.record(pages=4):
        buffers.set_events(pyxc.TraceClass.SCHED)
    assert found() == []
    buffers.enable()
    time.sleep(0.1)
    assert found() == ["pyxc trace off"]
    buffers.off()
    assert found() == []


def test_many_events_have_names(xen: pyxc.Xen) -> None:
    found: list[pyxc.TraceRecord] = []
    with xen.trace_buffers.record(pyxc.TraceClass.ALL) as reader:
        for _ in range(10):
            time.sleep(0.02)
            reader.take(lambda cpu, data: found.extend(decoded(xen.words32(bytes(data)), cpu)))
    names = {record.name for record in found}
    assert "sched.runstate_change" in names
    unnamed = {name for name in names if name.startswith("unknown.")}
    assert unnamed == set()
