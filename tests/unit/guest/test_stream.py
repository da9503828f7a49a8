# SPDX-License-Identifier: MIT
"""The stream of a saved guest: bytes to events, and events to bytes."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from array import array

import pytest
import streams
from streams import (
    BASIC,
    MSRS,
    PV_P2M,
    PV_START,
    SAMPLES,
    XSAVE,
    decoded,
    encoded,
    image,
    record,
    typed,
    units,
)

from pyxc import DecodeError, TscMode
from pyxc.domain.tsc import TscInfo
from pyxc.guest import stream as s
from pyxc.host.cpu_policy import CpuidLeaf, Msr

SAMPLE = pytest.mark.parametrize("name", SAMPLES)


# What the specification says, byte by byte.


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_pv_guest_as_the_specification_lays_it_out(order: str) -> None:
    words = [5 | 0xC << 60, 6 | 0xF << 60, 0]
    data = b"".join([
        image(1, order),
        record(2, bytes([8, 4, 0, 0, 0, 0, 0, 0]), order),
        record(0x11, struct.pack(f"{order}6I", 1, 0xFFFFFFFF, 2, 3, 4, 5), order),
        record(0x12, struct.pack(f"{order}IIQ", 0xCE, 0, 1 << 40), order),
        record(0x10, b"", order),
        record(3, struct.pack(f"{order}II2Q", 0, 600, 5, 9), order),
        record(1, struct.pack(f"{order}II3Q", 3, 0, *words) + b"5" * 4096 + b"0" * 4096, order),
        record(8, struct.pack(f"{order}IIQII", 2, 1000, 1 << 33, 7, 0), order),
        record(7, b"s" * 4096, order),
        record(4, struct.pack(f"{order}II", 0, 0) + b"b" * 5168, order),
        record(6, struct.pack(f"{order}II", 0, 0) + b"x" * 17, order),
        record(0, b"", order),
    ])  # fmt: skip
    events = decoded(data)
    assert typed(events) == typed(
        [
            s.ImageHeader("little" if order == "<" else "big", 3),
            s.DomainHeader(s.DomainKind.PV, 4, 17),
            s.PvInfo(8, 4),
            s.CpuidPolicy((CpuidLeaf(1, 0xFFFFFFFF, 2, 3, 4, 5),)),
            s.MsrPolicy((Msr(0xCE, 1 << 40),)),
            s.StaticDataEnd(),
            s.PvP2mFrames(0, 600, array("Q", [5, 9])),
            s.PageData(array("Q", [5, 6, 0]), bytes([0xC, 0xF, 0])),
            s.Pages(array("Q", [5, 0]), bytes([0xC, 0]), memoryview(b"5" * 4096 + b"0" * 4096)),
            TscInfo(TscMode.NEVER_EMULATE, 1000, 7, 1 << 33),
            s.SharedInfo(b"s" * 4096),
            s.PvVcpu(BASIC, 0, b"b" * 5168),
            s.PvVcpu(XSAVE, 0, b"x" * 17),
            s.LibxcEnd(),
        ]
    )
    assert encoded(events) == data


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_file_of_xl_as_its_sources_lay_it_out(order: str) -> None:
    flags = 0 if order == "<" else 1
    config = b"{}\0"
    data = b"".join([
        b"Xen saved domain, xl format\n \0 \r",
        struct.pack(f"{order}5I", 0x01020304, 3, 0, 4 + len(config), len(config)) + config,
        struct.pack(">8sII", b"LibxlFmt", 2, flags),
        record(1, b"", order),
        image(2, order),
        record(0x10, b"", order),
        record(1, struct.pack(f"{order}IIQ", 1, 0, 9) + b"9" * 4096, order),
        record(9, b"hvm context", order),
        record(0xA, struct.pack(f"{order}IIQQ", 1, 0, 17, 0xFEFFF), order),
        record(0, b"", order),
        record(2, struct.pack(f"{order}II", 2, 0) + b"key\0value\0", order),
        record(3, struct.pack(f"{order}II", 2, 0) + b"QEVM!", order),
        record(0, b"", order),
    ])  # fmt: skip
    events = decoded(data)
    byteorder = "little" if order == "<" else "big"
    assert typed(events[:3]) == typed(
        [
            s.XlHeader(byteorder, s.XlFlag.JSON | s.XlFlag.STREAM_V2, config),
            s.LibxlHeader(byteorder),
            s.LibxcContext(),
        ]
    )
    assert typed(events[-7:]) == typed(
        [
            s.HvmContextRecord(b"hvm context"),
            s.HvmParams(((17, 0xFEFFF),)),
            s.LibxcEnd(),
            s.EmulatorXenstoreData(s.Emulator.QEMU_UPSTREAM, 0, b"key\0value\0"),
            s.EmulatorContext(s.Emulator.QEMU_UPSTREAM, 0, 5),
            s.EmulatorData(memoryview(b"QEVM!")),
            s.LibxlEnd(),
        ]
    )
    assert encoded(events) == data


def test_what_xl_saved_is_read_and_written_again() -> None:
    data = streams.recorded_pv()
    events = decoded(data, 1 << 18)
    assert encoded(events) == data
    header, page_data = events[0], [event for event in events if isinstance(event, s.PageData)]
    assert isinstance(header, s.XlHeader)
    settings = header.settings()
    assert settings is not None
    assert settings["c_info"]["name"] == "pv1"
    assert [len(event.pfns) for event in page_data] == [1024] * 4
    assert sum((event.pfns for event in page_data), array("Q")) == array("Q", range(4096))
    pages = [event for event in events if isinstance(event, s.Pages)]
    magic = array("Q", (0x7079786300000000 + index for index in range(512)))
    if sys.byteorder == "big":
        magic.byteswap()
    found = {pfn: event.data[4096 * at :][:4096] for event in pages for at, pfn in enumerate(event.pfns)}
    assert found[1] == magic.tobytes()


# Both ways.


@SAMPLE
def test_events_come_back_from_bytes(name: str) -> None:
    data = encoded(SAMPLES[name])
    assert typed(decoded(data)) == typed(SAMPLES[name])
    assert encoded(decoded(data)) == data


@pytest.mark.parametrize("size", [1, 7, 4096, 10_001])
@pytest.mark.parametrize("name", ["pv-32", "xl-hvm", "libxl-big", "remus"])
def test_pieces_of_any_size_make_the_same_events(name: str, size: int) -> None:
    data = encoded(SAMPLES[name])
    assert typed(decoded(data, size)) == typed(SAMPLES[name])


def test_the_place_of_each_event() -> None:
    data = encoded(SAMPLES["xl-hvm"])
    reader = s.Reader()
    places = {type(event): (reader.place, reader.offset) for event in reader.feed(data)}
    assert places[s.XlHeader][0] == ("xl", "header", 0, 48 + 4 + len(streams.CONFIG))
    place, offset = places[s.HvmParams]
    assert place == ("libxc", "HVM_PARAMS", offset - 64, 64)
    assert str(place) == f"libxc HVM_PARAMS at byte {offset - 64}"
    assert data[place.offset :][:4] == b"\x0a\0\0\0"
    assert places[s.LibxlEnd] == (("libxl", "END", len(data) - 8, 8), len(data))


def test_what_follows_the_end_is_left_to_the_caller() -> None:
    """A migration sends more over the same connection."""
    data = encoded(SAMPLES["libxl-pv"])
    reader = s.Reader()
    assert list(reader.feed(data[:-1]))
    assert not reader.finished
    assert typed(reader.feed(data[-1:] + b"domain received")) == [(s.LibxlEnd, ())]
    assert list(reader.feed(b", ready")) == []
    assert (reader.finished, reader.unused, reader.offset) == (True, b"domain received, ready", len(data))
    reader.close()


def test_events_must_be_taken_before_more_is_fed() -> None:
    data = encoded(SAMPLES["pv"])
    reader = s.Reader()
    next(reader.feed(data))
    with pytest.raises(ValueError, match="take all events"):
        reader.feed(data)


def read_by_the_caller(data: bytes, size: int) -> tuple[list[s.Event], bytes]:
    """The events without Pages, and the contents, of which what was not fed yet is read past the reader."""
    reader, at, found, contents = s.Reader(strict=True), 0, [], bytearray()
    while not reader.finished:
        fed = data[at : at + size]
        at += len(fed)
        for event in reader.feed(fed):
            found.append(event)
            if isinstance(event, s.PageData):
                into = bytearray(4096 * event.nr_data())
                done = reader.take_contents(memoryview(into))
                into[done:] = data[at : at + len(into) - done]
                reader.passed(len(into) - done)
                at += len(into) - done
                contents += into
    return found, bytes(contents)


@pytest.mark.parametrize("size", [1, 100, 5000, 1 << 20])
@pytest.mark.parametrize("name", ["pv-32", "xl-hvm", "libxl-big", "remus"])
def test_contents_that_the_caller_reads(name: str, size: int) -> None:
    data = encoded(SAMPLES[name])
    expected = decoded(data)
    events, contents = read_by_the_caller(data, size)
    assert typed(events) == typed(event for event in expected if not isinstance(event, s.Pages))
    assert contents == b"".join(bytes(event.data) for event in expected if isinstance(event, s.Pages))


def test_the_caller_reads_contents_only_and_whole_pages() -> None:
    data = encoded(SAMPLES["hvm"])
    reader = s.Reader()
    feed = reader.feed(data)
    assert reader.take_contents(memoryview(bytearray(8))) == 0
    with pytest.raises(ValueError, match="not the next contents"):
        reader.passed(1)
    while not isinstance(next(feed), s.PageData):
        pass
    with pytest.raises(ValueError, match="not the next contents"):
        reader.passed(4096)  # these were fed
    assert reader.take_contents(memoryview(bytearray(5))) == 5
    with pytest.raises(ValueError, match="a part of a page"):
        next(feed)


def test_contents_are_views_of_what_was_fed() -> None:
    data = encoded(SAMPLES["hvm"])
    pages = [event for event in s.Reader().feed(data) if isinstance(event, s.Pages)]
    assert pages
    assert all(event.data.obj is data for event in pages)


def test_a_buffer_can_be_fed_again_and_again() -> None:
    data, buffer, reader = encoded(SAMPLES["hvm"]), bytearray(), s.Reader()
    for start in range(0, len(data), 3000):
        buffer[:] = data[start : start + 3000]
        for event in reader.feed(buffer):
            del event
    reader.close()


def test_unknown_optional_records_are_skipped() -> None:
    optional = record(0x80000001, b"of the future")
    libxl, libxc = units(encoded(SAMPLES["libxl-pv"])), units(encoded(SAMPLES["pv"]))
    for at in range(2, len(libxc)):
        data = b"".join(unit.data for unit in libxc[:at]) + optional + b"".join(u.data for u in libxc[at:])
        events = decoded(data, 5000)
        assert s.Skipped("libxc", 0x80000001, 13) in events
        assert typed(e for e in events if not isinstance(e, s.Skipped)) == typed(SAMPLES["pv"])
    data = b"".join(unit.data for unit in libxl[:-1]) + optional + libxl[-1].data
    assert s.Skipped("libxl", 0x80000001, 13) in decoded(data)


def test_a_skipped_record_takes_no_memory() -> None:
    size = 64 << 20
    reader = s.Reader()
    events = list(reader.feed(PV_START + struct.pack("<II", 0x80000002, size)))
    assert events[-1] == s.Skipped("libxc", 0x80000002, size)
    chunk = bytes(1 << 20)
    tracemalloc.start()
    for _ in range(size >> 20):
        assert list(reader.feed(chunk)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert list(reader.feed(PV_P2M)) == [s.PvP2mFrames(0, 511, array("Q", [3]))]


# Version 2, which Xen 4.6 to 4.13 wrote.


def test_version_2_has_no_static_data_end() -> None:
    for kind in (s.StaticDataEnd(), s.CpuidPolicy((CpuidLeaf(0, 0, 0, 0, 0, 0),)), s.MsrPolicy((Msr(1, 1),))):
        writer = s.Writer()
        for event in SAMPLES["hvm-version-2"][:2]:
            writer.encode(event)
        with pytest.raises(ValueError, match="version 2 have no such record"):
            writer.encode(kind)


def test_records_without_content_of_xen_4_6_to_4_8() -> None:
    empty = record(0xC, struct.pack("<II", 0, 0)), record(6, struct.pack("<II", 0, 0))
    parts = [unit.data for unit in units(encoded(SAMPLES["pv-version-2"]))]
    data = b"".join([*parts[:-1], *empty, parts[-1]])
    assert s.PvVcpu(MSRS, 0, b"") in decoded(data)
    assert encoded(decoded(data)) == data
    parts = [unit.data for unit in units(encoded(SAMPLES["hvm-version-2"]))]
    data = b"".join([*parts[:-1], record(0xA, bytes(8)), parts[-1]])
    assert s.HvmParams(()) in decoded(data)


def test_a_stream_that_was_converted_from_an_old_one() -> None:
    """The converter writes HVM_PARAMS twice, and SHARED_INFO last."""
    parts = [unit.data for unit in units(encoded(SAMPLES["hvm"]))]
    more = record(0xA, struct.pack("<IIQQ", 1, 0, 5, 0xFEFFD))
    assert s.HvmParams(((5, 0xFEFFD),)) in decoded(b"".join([*parts[:-1], more, parts[-1]]))
    found = {unit.place.name: unit.data for unit in units(encoded(SAMPLES["pv"]))}
    others = [unit.data for unit in units(encoded(SAMPLES["pv"])) if unit.place.name != "SHARED_INFO"]
    assert decoded(b"".join([*others[:-1], found["SHARED_INFO"], others[-1]]))


# xl's configuration.


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (b"{", "not JSON"),
        (b"[1]", "a list, not an object"),
        pytest.param(b"[" * 10**6, "not JSON", id="nested"),
    ],
)
def test_a_configuration_that_is_malformed(config: bytes, complaint: str) -> None:
    header = s.XlHeader("little", s.XlFlag.JSON | s.XlFlag.STREAM_V2, config)
    with pytest.raises(DecodeError, match=complaint):
        header.settings()


def test_a_configuration_that_is_not_json() -> None:
    assert s.XlHeader("little", s.XlFlag.STREAM_V2, b'name = "web1"\n').settings() is None
    assert s.XlHeader("little", s.XlFlag.JSON | s.XlFlag.STREAM_V2, None).settings() is None


def test_optional_data_of_a_later_xl_is_kept() -> None:
    header = s.XlHeader("big", s.XlFlag.JSON | s.XlFlag.STREAM_V2, b"{}\0", 0x10, b"of the future")
    data = encoded([header, *SAMPLES["libxl-pv"]])
    assert decoded(data)[0] == header
    assert encoded(decoded(data)) == data


def test_pairs_of_a_device_model() -> None:
    event = streams.device_model()[0]
    assert isinstance(event, s.EmulatorXenstoreData)
    assert event.pairs() == [(b"physmap/1/start_addr", b"f0000000"), (b"physmap/1/name", b"vga")]
    assert s.EmulatorXenstoreData(s.Emulator.UNKNOWN, 0, b"").pairs() == []
