# SPDX-License-Identifier: MIT
"""Traces as files, and what is drawn of them."""

from __future__ import annotations

import io
import json
import struct

import pytest

from pyxc.abi import trace
from pyxc.errors import DecodeError
from pyxc.files import traces
from pyxc.files.perfetto import PerfettoWriter
from pyxc.host.trace_records import TraceRecord

RECORD = (0x90021130, 5, 0, 1 << 16)
"""Running to offline, of vcpu 0 of domain 1, after 5 cycles."""


def written(byteorder: str, *pieces: tuple[int, tuple[int, ...]]) -> bytes:
    stream = io.BytesIO()
    writer = traces.TraceWriter(stream, byteorder)
    for cpu, words in pieces:
        order = "<" if byteorder == "little" else ">"
        writer.put(cpu, memoryview(struct.pack(f"{order}{len(words)}I", *words)))
    assert writer.size_bytes == len(stream.getvalue())
    return stream.getvalue()


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_what_is_written_is_read(byteorder: str) -> None:
    data = written(byteorder, (0, RECORD), (1, RECORD + RECORD), (0, RECORD))
    assert traces.is_trace(data)
    first, second = traces.rounds(io.BytesIO(data))
    assert [one.cpu for one in first] == [0, 1, 1]
    assert [(one.cpu, one.tsc, one.words) for one in second] == [(0, 5, (1 << 16,))]


def test_it_is_xentraces_form() -> None:
    assert written("little", (3, (0x1F001,))) == struct.pack("<IIII", 0x2001F003, 3, 4, 0x1F001)


def test_every_cut_is_noticed() -> None:
    data = written("little", (0, RECORD), (1, RECORD))
    for size in range(len(data)):
        if size != len(data) // 2:
            with pytest.raises(DecodeError):
                list(traces.rounds(io.BytesIO(data[:size])))


def test_a_round_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file has a record in every four zero bytes."""
    monkeypatch.setattr(traces, "_RECORDS_MOST", 1000)
    for pieces in ([(0, (0,) * 1001)], [(cpu, (0,) * 10) for cpu in range(101)]):
        with pytest.raises(DecodeError, match="more than 1000 records in one round"):
            list(traces.rounds(io.BytesIO(written("little", *pieces))))


@pytest.mark.parametrize(
    "head",
    [(0x1F003, 0, 4), (0x2001F003, 2**20, 4), (0x2001F003, 0, 5), (0x2001F003, 0, 2**31), (0x2001F002, 0, 4)],
)
def test_damage(head: tuple[int, int, int]) -> None:
    with pytest.raises(DecodeError):
        list(traces.rounds(io.BytesIO(struct.pack("<III", *head) + bytes(8))))


def drawn(*records: TraceRecord, last: int | None = None) -> list[dict[str, object]]:
    stream = io.StringIO()
    writer = PerfettoWriter(stream, 1_000_000, {1: 'web "1"'})
    writer.add(records)
    writer.close(last)
    found: list[dict[str, object]] = json.loads(stream.getvalue())["traceEvents"]
    return found


def change(tsc: int, old: int, new: int, cpu: int = 0) -> TraceRecord:
    return TraceRecord(cpu, trace.TRC_SCHED_RUNSTATE_CHANGE | old << 8 | new << 4, tsc, (1 << 16 | 2,))


def test_a_drawing() -> None:
    found = drawn(change(1000, 2, 1), change(3000, 1, 0, cpu=4), change(9000, 0, 2))
    process, thread, waits, runs = found
    assert process["args"] == {"name": 'web "1"'}
    assert (thread["pid"], thread["tid"]) == (1, 2)
    assert (waits["name"], waits["ts"], waits["dur"]) == ("waits for a cpu", 0, 2)
    assert (runs["name"], runs["ts"], runs["dur"], runs["args"]) == ("running", 2, 6, {"cpu": 4})


def test_what_lasts_is_drawn_to_the_end() -> None:
    assert drawn(change(1000, 2, 0), last=5000)[-1]["dur"] == 4
    assert drawn(change(1000, 2, 0)) == []
    assert drawn() == []


def test_losses_are_drawn() -> None:
    (found,) = drawn(TraceRecord(3, trace.TRC_LOST_RECORDS, 7, (12, 0, 0, 0)))
    assert (found["name"], found["tid"]) == ("12 records lost", 3)
