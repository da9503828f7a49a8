# SPDX-License-Identifier: MIT
"""Trace buffers of simulated hosts: turned on and off, read, full."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from hosts import Boot, Host

from pyxc import PAGE_SIZE, TraceClass, TraceReader, TraceRecord
from pyxc.abi import trace
from pyxc.errors import DecodeError, HypercallError, PermissionDenied, ReadOnlyError, Unsupported
from pyxc.host.trace_records import decoded, lost

EVENT = trace.TraceClass.SCHED & 0xFFFF8FFF | 1
"""sched.dom_add."""


def taken(host: Host, reader: TraceReader) -> list[TraceRecord]:
    found: list[TraceRecord] = []
    reader.take(lambda cpu, data: found.extend(decoded(host.xen.words32(bytes(data)), cpu)))
    return found


@pytest.mark.parametrize("release", ["4.1", "4.17", "4.22"])
def test_records_come_as_they_were_written(boot: Boot, release: str) -> None:
    host = boot(release)
    with host.xen.trace_buffers.record() as reader:
        assert reader.cpus == [0, 1]
        host.truth.trace(1, EVENT, 7, 8)
        host.truth.trace(0, EVENT)
        first, second = taken(host, reader)
        assert taken(host, reader) == []
    assert (first.cpu, first.name, first.words) == (0, "sched.dom_add", ())
    assert (second.cpu, second.words) == (1, (7, 8))
    assert first.tsc == second.tsc is not None


def test_only_what_is_asked_for(host: Host) -> None:
    with host.xen.trace_buffers.record(TraceClass.HVM, cpus=[1]) as reader:
        host.truth.trace(1, EVENT)
        host.truth.trace(0, 0x82001)
        host.truth.trace(1, 0x82001)
        assert [(one.cpu, one.name) for one in taken(host, reader)] == [(1, "hvm.pf_xen")]


def test_it_is_off_in_the_end_whatever_happens(host: Host) -> None:
    with pytest.raises(KeyError), host.xen.trace_buffers.record():
        assert host.truth.trace_buffers.enabled
        raise KeyError
    assert not host.truth.trace_buffers.enabled


def test_what_was_there_before_is_thrown_away(host: Host) -> None:
    buffers = host.xen.trace_buffers
    buffers.allocate(2)
    host.truth.trace(0, EVENT)
    with buffers.record() as reader:
        assert taken(host, reader) == []


def test_buffers_have_one_size_until_the_next_boot(host: Host) -> None:
    buffers = host.xen.trace_buffers
    assert buffers.info().size_bytes == buffers.info().frame == 0
    for call in (buffers.enable, lambda: buffers.allocate(0)):
        with pytest.raises((HypercallError, ValueError)):
            call()
    with pytest.raises(HypercallError) as none:
        buffers.open()
    assert none.value.errno == errno.ENODATA
    buffers.allocate(4)
    for pages, number in ((4, errno.EBUSY), (5, errno.EINVAL)):
        with pytest.raises(HypercallError) as caught:
            buffers.allocate(pages)
        assert caught.value.errno == number
    assert buffers.info().size_bytes == PAGE_SIZE


def test_many_rounds_around_the_ring(host: Host) -> None:
    """Records of several sizes, more than the ring holds, none lost and none twice."""
    with host.xen.trace_buffers.record(pages=1) as reader:
        sent, found = [], []
        for number in range(2000):
            words = tuple(range(number, number + number % 8))
            host.truth.trace(number % 2, EVENT, *words)
            sent.append((number % 2, words))
            if number % 50 == 0:
                found += taken(host, reader)
        found += taken(host, reader)
    for cpu in (0, 1):
        assert [one.words for one in found if one.cpu == cpu] == [words for on, words in sent if on == cpu]


def test_what_is_lost_is_counted(host: Host) -> None:
    with host.xen.trace_buffers.record(pages=1) as reader:
        for _ in range(1000):
            host.truth.trace(0, EVENT)
        kept = len(taken(host, reader))
        host.truth.trace(0, EVENT)
        missing, after = taken(host, reader)
    assert 0 < kept < 1000
    assert (lost(missing), after.name) == (1000 - kept, "sched.dom_add")


def test_what_a_taker_refuses_stays(host: Host) -> None:
    def refuse(cpu: int, data: memoryview) -> None:
        raise OSError(errno.ENOSPC, "full")

    with host.xen.trace_buffers.record() as reader:
        host.truth.trace(1, EVENT)
        with pytest.raises(OSError, match="full"):
            reader.take(refuse)
        assert len(taken(host, reader)) == 1


@pytest.mark.parametrize(("cons", "prod"), [(4, 2), (0, 9000), (2**31, 0), (0, 8180), (8, 4)])
def test_a_ring_that_makes_no_sense(host: Host, cons: int, prod: int) -> None:
    with host.xen.trace_buffers.record(pages=1) as reader:
        first = host.truth.trace_buffers._frames[0].start
        host.truth.machine.memory.write(first, 0, host.truth.machine.words.pack32([cons, prod]))
        with pytest.raises(DecodeError):
            taken(host, reader)


LIES: list[Callable[[bytearray], None]] = [
    lambda data: data.__setitem__(slice(0, 2), bytes(2)),
    lambda data: data.__setitem__(slice(2, 4), b"\xff\xff"),
]


@pytest.mark.parametrize("lie", LIES)
def test_an_index_that_makes_no_sense(host: Host, lie: Callable[[bytearray], None]) -> None:
    host.xen.trace_buffers.allocate(1)
    frame = host.truth.trace_buffers.info.start
    data = bytearray(host.truth.machine.memory.read(frame, 0, PAGE_SIZE))
    lie(data)
    host.truth.machine.memory.write(frame, 0, bytes(data))
    with pytest.raises(DecodeError):
        host.xen.trace_buffers.open()


@pytest.mark.parametrize("size", [1, PAGE_SIZE - 1])
def test_a_size_below_one_page(host: Host, size: int) -> None:
    buffers = host.xen.trace_buffers
    buffers.allocate(1)
    host.link.lie(trace.TBUF_OP_GET_INFO, size=size)
    for ask in (buffers.info, buffers.open, buffers.unread_bytes):
        with pytest.raises(DecodeError, match=f"size is reported as {size}"):
            ask()


def test_a_frame_that_cannot_be_mapped_leaves_nothing_open(host: Host) -> None:
    host.xen.trace_buffers.allocate(1)
    frame = host.truth.trace_buffers.info.start
    words = host.truth.machine.words.pack32([2**30])
    host.truth.machine.memory.write(frame, 4 * (129 + 1), words)
    with pytest.raises((HypercallError, PermissionDenied), match="trace buffer"):
        host.xen.trace_buffers.open()


def test_a_read_only_handle_does_not_trace(boot: Boot) -> None:
    host = boot(readonly=True)
    buffers = host.xen.trace_buffers
    assert buffers.info().events == TraceClass.ALL
    for act in (buffers.enable, buffers.disable, buffers.allocate, buffers.open, buffers.set_cpus):
        with pytest.raises(ReadOnlyError):
            act()
    with pytest.raises(ReadOnlyError), buffers.record():
        pass


def test_before_xen_4_0_the_buffers_were_others(boot: Boot) -> None:
    buffers = boot("3.4").xen.trace_buffers
    with pytest.raises(Unsupported, match=r"4\.0"):
        buffers.open()
    with pytest.raises(Unsupported, match=r"4\.0"), buffers.record():
        pass


def test_arguments(host: Host) -> None:
    buffers = host.xen.trace_buffers
    for act in (
        lambda: buffers.set_events(-1),
        lambda: buffers.set_events(2**32),
        lambda: buffers.set_cpus([2]),
        lambda: buffers.allocate(2**16),
    ):
        with pytest.raises(ValueError):
            act()


def test_an_event_has_a_name_whatever_states_it_tells_of() -> None:
    changed = next(event for event, name in trace.EVENTS.items() if name == "sched.runstate_change")
    assert {trace.event_name(changed | old << 4 | new << 8) for old in range(4) for new in range(4)} == {
        "sched.runstate_change"
    }
    assert "runstate" not in trace.event_name(0x0FFF0000)
