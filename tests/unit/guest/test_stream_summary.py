# SPDX-License-Identifier: MIT
"""What a stream says of its guest."""

from __future__ import annotations

from array import array

import pytest
import streams
from streams import NOTAB, SAMPLES, XTAB, encoded, page_data

from pyxc import DecodeError
from pyxc.guest import stream as s
from pyxc.guest.stream.summary import RecordCount, StreamInfo, Summary


def summarised(events: list[s.Event]) -> StreamInfo:
    reader, summary = s.Reader(), Summary()
    for event in reader.feed(encoded(events)):
        summary.add(reader.place, event)
    reader.close()
    return summary.info()


def test_a_pv_guest() -> None:
    info = summarised(SAMPLES["xl-pv"])
    assert info.layers == ("xl", "libxl", "libxc")
    assert (info.kind, info.bits, info.xen, info.version) == (s.DomainKind.PV, 64, (4, 17), 3)
    assert (info.vcpus, info.memory_kb, info.tsc) == (2, 16, streams.TSC)
    assert info.types == {"NOTAB": 2, "L1TAB": 1, "L4TAB_PIN": 1, "BROKEN": 1, "XALLOC": 1, "XTAB": 1}
    assert info.times_sent == {1: 4}
    assert isinstance(info.config, dict)
    assert info.config["c_info"]["name"] == "web1"
    assert RecordCount("libxc", "X86_PV_VCPU_BASIC", 2, 2 * (8 + 8 + 5168)) in info.records
    assert RecordCount("libxc", "PAGE_DATA", 2, 2 * 16 + 8 * 7 + 4 * 4096) in info.records
    assert sum(record.size_bytes for record in info.records) == len(encoded(SAMPLES["xl-pv"]))


def test_an_hvm_guest_and_pages_that_are_sent_again() -> None:
    info = summarised(SAMPLES["libxl-big"])
    assert (info.layers, info.byteorder, info.kind) == (("libxl", "libxc"), "big", s.DomainKind.HVM)
    assert (info.bits, info.config, info.vcpus, info.memory_kb) == (None, None, 3, 8)
    assert info.times_sent == {1: 1, 2: 1}


def test_pages_are_counted_wherever_they_are() -> None:
    pfns = [4094, 4095, 4096, 7, 8, 3, 4095, 4095, (1 << 40) - 1]
    head, tail = SAMPLES["hvm"][:5], SAMPLES["hvm"][-4:]
    info = summarised([*head, *page_data((pfn, NOTAB) for pfn in pfns), *tail])
    assert info.times_sent == {1: 6, 3: 1}
    assert info.memory_kb == 7 * 4


def test_more_times_than_can_be_counted() -> None:
    head, tail = SAMPLES["hvm"][:5], SAMPLES["hvm"][-4:]
    again = page_data([(9, NOTAB)]) * 300
    assert summarised([*head, *again, *tail]).times_sent == {255: 1}


def test_memory_of_the_summary_is_bounded() -> None:
    """A page here and a page there, of a guest that would be larger than any."""
    summary = Summary()
    place = s.Place("libxc", "PAGE_DATA", 0, 0)
    for start in range(0, 1 << 15, 1 << 12):
        pfns = array("Q", (number << 20 for number in range(start, start + (1 << 12))))
        summary.add(place, s.PageData(pfns, bytes(len(pfns))))
    info = summary.info()
    assert (info.memory_kb, info.times_sent) == (None, None)
    assert info.types == {"NOTAB": 1 << 15}


def test_optional_records_are_one_kind() -> None:
    summary = Summary()
    for number in range(100):
        summary.add(s.Place("libxc", f"record {number}", 0, 8), s.Skipped("libxc", 1 << 31 | number, 0))
    assert summary.info().records == (RecordCount("libxc", "optional, unknown", 100, 800),)


def test_checkpoints() -> None:
    info = summarised(SAMPLES["remus"])
    assert info.checkpoints == 1
    assert RecordCount("libxl", "EMULATOR_XENSTORE_DATA", 2, 2 * 72) in info.records


@pytest.mark.parametrize("context", [b"x", bytes(8), streams.hvm_context()[:-8]])
def test_an_hvm_context_that_is_malformed(context: bytes) -> None:
    events = [
        s.HvmContextRecord(context) if isinstance(event, s.HvmContextRecord) else event
        for event in SAMPLES["hvm"]
    ]
    if context == bytes(8):
        assert summarised(events).vcpus == 0
        return
    with pytest.raises(DecodeError, match=r"libxc HVM_CONTEXT at byte \d+: the HVM context"):
        summarised(events)


def test_a_configuration_as_text() -> None:
    header = s.XlHeader("little", s.XlFlag.STREAM_V2, b'name = "web1"\n\0')
    assert summarised([header, *SAMPLES["libxl-pv"]]).config == 'name = "web1"\n'


def test_nothing() -> None:
    info = Summary().info()
    assert (info.layers, info.kind, info.records, info.memory_kb) == ((), None, (), 0)
    assert XTAB not in info.types
