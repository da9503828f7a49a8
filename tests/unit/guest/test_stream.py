# SPDX-License-Identifier: MIT
"""The stream of a saved guest: bytes to events, events to bytes, and what is refused of either."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from array import array
from collections.abc import Iterator

import pytest
import streams
from streams import BASIC, MSRS, SAMPLES, XSAVE, decoded, encoded, typed, units

from pyxc import DecodeError, TscMode
from pyxc.domain.tsc import TscInfo
from pyxc.guest import stream as s
from pyxc.host.cpu_policy import CpuidLeaf, Msr

SAMPLE = pytest.mark.parametrize("name", SAMPLES)
END, PAGE_DATA = 0, 1


def record(kind: int, body: bytes = b"", order: str = "<", length: int | None = None) -> bytes:
    """As the specification lays it out."""
    claimed = len(body) if length is None else length
    return struct.pack(f"{order}II", kind, claimed) + body + bytes(-len(body) % 8)


def image(kind: int, order: str = "<", version: int = 3, major: int = 4, minor: int = 17) -> bytes:
    header = struct.pack(">QIIHHI", 2**64 - 1, 0x58454E46, version, order == ">", 0, 0)
    return header + struct.pack(f"{order}IHHII", kind, 12, 0, major, minor)


PV_START = image(1) + record(2, bytes([8, 4, 0, 0, 0, 0, 0, 0])) + record(0x10)
PV_P2M = record(3, struct.pack("<IIQ", 0, 511, 3))
HVM_START = image(2) + record(0x10)
ONE_PAGE = record(PAGE_DATA, struct.pack("<IIQ", 1, 0, 5) + bytes(4096))


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


# What is refused.

SENT_AGAIN = {"PAGE_DATA", "X86_PV_P2M_FRAMES"}
"""What may be sent more than once."""
NOT_NEEDED = {"X86_CPUID_POLICY", "X86_MSR_POLICY", "X86_TSC_INFO", "VERIFY", "HVM_PARAMS",
              "X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE", "X86_PV_VCPU_MSRS",
              "EMULATOR_XENSTORE_DATA", "EMULATOR_CONTEXT"}  # fmt: skip


def refused(data: bytes, name: str = "", strict: bool = False) -> str:
    """The error of a stream that is refused, which names a record and an offset in the stream."""
    with pytest.raises(DecodeError, match=r"(xl|libxl|libxc) .* at byte \d+") as caught:
        decoded(data, strict=strict)
    assert name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["pv", "pv-version-2", "hvm", "xl-hvm"])
def test_a_doubled_record(name: str) -> None:
    parts = units(encoded(SAMPLES[name]))
    for at, unit in enumerate(parts):
        data = b"".join(part.data for part in [*parts[: at + 1], unit, *parts[at + 1 :]])
        if unit.place.name in SENT_AGAIN:
            assert decoded(data)
        elif unit.place.name != "END":
            assert f"at byte {unit.place.offset + unit.place.size}" in refused(data)
        else:
            # A second END of libxc's looks as the END of libxl's.
            reader = s.Reader()
            assert list(reader.feed(data))
            assert reader.unused.endswith(unit.data)


@pytest.mark.parametrize("name", ["pv", "pv-version-2", "hvm", "xl-hvm"])
def test_a_missing_record(name: str) -> None:
    parts = units(encoded(SAMPLES[name]))
    names = [part.place.name for part in parts]
    for at, unit in enumerate(parts):
        data = b"".join(part.data for part in parts[:at] + parts[at + 1 :])
        again = unit.place.name in SENT_AGAIN and names.count(unit.place.name) > 1
        if unit.place.name in NOT_NEEDED or again:
            assert decoded(data)
        elif unit.place[:2] == ("xl", "header"):
            assert isinstance(decoded(data)[0], s.LibxlHeader)
        else:
            refused(data)


@pytest.mark.parametrize("name", ["pv", "hvm"])
def test_a_record_out_of_order(name: str) -> None:
    """Two neighbours change places: an error, unless the two do not depend on each other."""
    parts = units(encoded(SAMPLES[name]))
    independent = {
        ("X86_PV_INFO", "X86_CPUID_POLICY"), ("X86_CPUID_POLICY", "X86_MSR_POLICY"),
        ("PAGE_DATA", "PAGE_DATA"), ("PAGE_DATA", "VERIFY"), ("VERIFY", "PAGE_DATA"),
        ("PAGE_DATA", "X86_TSC_INFO"), ("X86_TSC_INFO", "SHARED_INFO"), ("SHARED_INFO", "X86_PV_VCPU_BASIC"),
        ("X86_PV_VCPU_EXTENDED", "X86_PV_VCPU_XSAVE"), ("X86_PV_VCPU_XSAVE", "X86_PV_VCPU_BASIC"),
        ("X86_TSC_INFO", "HVM_CONTEXT"), ("HVM_CONTEXT", "HVM_PARAMS"),
    }  # fmt: skip
    for at in range(len(parts) - 1):
        first, second = parts[at], parts[at + 1]
        data = b"".join(part.data for part in [*parts[:at], second, first, *parts[at + 2 :]])
        if (first.place.name, second.place.name) in independent:
            assert decoded(data)
        elif second.place.name == "END":
            reader = s.Reader()
            assert list(reader.feed(data))
            assert reader.unused == first.data
        else:
            refused(data)


@SAMPLE
def test_a_truncated_stream_names_where_it_ends(name: str) -> None:
    data = encoded(SAMPLES[name])
    edges = {unit.place.offset + shift for unit in units(data) for shift in (-1, 0, 1, 8, 9)}
    for length in sorted(edges | set(range(0, len(data), 1009))):
        if not 0 <= length < len(data):
            continue
        reader = s.Reader()
        for _ in reader.feed(data[:length]):
            pass
        with pytest.raises(DecodeError, match=rf"ends at byte {length}, (inside|after) \w+ .* at byte \d+"):
            reader.close()


def test_a_stream_that_ends_between_two_records() -> None:
    last = units(encoded(SAMPLES["hvm"]))[-2].place
    reader = s.Reader()
    assert list(reader.feed(encoded(SAMPLES["hvm"])[: last.offset + last.size + 7]))
    with pytest.raises(DecodeError, match=rf"after libxc HVM_PARAMS at byte {last.offset}$"):
        reader.close()


def test_a_reader_that_failed_says_so_again() -> None:
    reader = s.Reader()
    for call in (lambda: list(reader.feed(b"not a stream")), lambda: list(reader.feed(b"x")), reader.close):
        with pytest.raises(DecodeError, match="xl header at byte 0: it begins with 6e6f"):
            call()


def vcpu(part: int, size: int, number: int = 0) -> bytes:
    return record(part, struct.pack("<II", number, 0) + bytes(size))


def page_list(*words: int, count: int | None = None, length: int | None = None, data: bytes = b"") -> bytes:
    body = struct.pack(f"<II{len(words)}Q", len(words) if count is None else count, 0, *words) + data
    return record(PAGE_DATA, body, length=length)


def policy(kind: int, size: int) -> bytes:
    return image(2) + record(kind, bytes(size))


XL_HEAD = b"Xen saved domain, xl format\n \0 \r"
HOSTILE = {
    # Headers.
    "xl: magic": (b"Xen saved domain, XL format\n \0 \r" + bytes(16), "xl header .*not the header"),
    "xl: byte order": (XL_HEAD + struct.pack("<4I", 0x02010304, 3, 0, 0), "byte order mark is 04030102"),
    "xl: mandatory flags": (XL_HEAD + struct.pack("<4I", 0x01020304, 7, 0, 0), "a newer xl"),
    "xl: old stream": (XL_HEAD + struct.pack("<4I", 0x01020304, 1, 0, 0), "of Xen 4.5 and earlier"),
    "xl: data": (XL_HEAD + struct.pack("<4I", 0x01020304, 3, 0, 2**32 - 1), "expected 0 to 16777216"),
    "xl: no size": (XL_HEAD + struct.pack("<4I", 0x01020304, 3, 0, 2) + b"{}", "too few for its size"),
    "xl: config": (XL_HEAD + struct.pack("<5I", 0x01020304, 3, 0, 4, 9),
                   "configuration is 9: expected 0 to 0"),
    "xl: then libxc": (XL_HEAD + struct.pack("<4I", 0x01020304, 3, 0, 0) + PV_START, "not with LibxlFmt"),
    "libxl: version": (struct.pack(">8sII", b"LibxlFmt", 1, 0), "libxl header at byte 0.*version is 1"),
    "libxc: id": (b"\xff" * 8 + bytes(16), "image header at byte 0"),
    "libxc: version": (image(1, version=4), "version is 4"),
    "libxc: kind": (image(3), "type of the guest is 3"),
    "libxc: page shift": (image(1)[:28] + b"\x0d\0" + image(1)[30:], "page shift is 13"),
    # Types and lengths.
    "mandatory": (PV_START + record(0x13),
                  r"libxc record type 0x13 at byte 64: its type is mandatory and unknown"),
    "toolstack": (PV_START + record(0xB), "TOOLSTACK .*refused"),
    "colo": (PV_START + record(0xF), "CHECKPOINT_DIRTY_PFN_LIST .*COLO"),
    "colo: libxl": (struct.pack(">8sII", b"LibxlFmt", 2, 0) + record(5, bytes(8)), "CHECKPOINT_STATE .*COLO"),
    "libxl: mandatory": (struct.pack(">8sII", b"LibxlFmt", 2, 0) + record(6), "libxl record type 0x6 "),
    "end": (PV_START + record(END, bytes(8)), "END .*its length is 8: expected 0 to 0"),
    "too long": (PV_START + record(PAGE_DATA, length=(128 << 20) + 1), "PAGE_DATA .*its length"),
    "pv info": (image(1) + record(2, bytes([8, 3, 0, 0, 0, 0, 0, 0])), "64 bits and 3 levels"),
    "pv info: width": (image(1) + record(2, bytes([2, 3, 0, 0, 0, 0, 0, 0])), "16 bits and 3"),
    "shared info": (PV_START + PV_P2M + record(7, bytes(4095)), "SHARED_INFO .*4095: expected 4096"),
    "tsc mode": (PV_START + record(8, struct.pack("<IIQII", 4, 0, 0, 0, 0)), "TSC mode is 4"),
    "tsc": (PV_START + record(8, bytes(16)), "X86_TSC_INFO .*its length is 16"),
    "cpuid": (policy(0x11, 25), "X86_CPUID_POLICY .*multiple of 24"),
    "cpuid: none": (policy(0x11, 0), "X86_CPUID_POLICY .*its length is 0"),
    "msr": (policy(0x12, 24), "X86_MSR_POLICY .*multiple of 16"),
    "msr: many": (image(2) + record(0x12, length=16 * 4097), "X86_MSR_POLICY .*its length"),
    # The p2m.
    "p2m: reversed": (PV_START + record(3, struct.pack("<IIQ", 600, 599, 3)), "pfns 0x258 to 0x257"),
    "p2m: too few": (PV_START + record(3, struct.pack("<IIQ", 0, 512, 3)),
                     "has 2 pages, but it names 1"),
    "p2m: outside": (PV_START + record(3, struct.pack("<IIQ", 0, 511, 512)),
                     "pfn 0x200, but the last pfn is 0x1ff"),
    "p2m: huge": (PV_START + record(3, length=9 + 8 * 2**23), "X86_PV_P2M_FRAMES .*its length"),
    "p2m: odd": (PV_START + record(3, bytes(20)), "a multiple of 8"),
    # Pages.
    "pages: none": (HVM_START + page_list(length=16), "number of pages is 0"),
    "pages: short": (HVM_START + page_list(1, 2, count=3), "number of pages is 3: expected 1 to 2"),
    "pages: claimed": (HVM_START + record(PAGE_DATA, struct.pack("<II", 2**24 - 1, 0), length=128 << 20),
                       "number of pages is 16777215: expected 1 to 1048576"),
    "pages: no data": (HVM_START + page_list(1), "it has 16 bytes: expected 4112 for its 1 pages"),
    "pages: odd data": (HVM_START + page_list(1, data=bytes(4095)), "it has 4111 bytes"),
    "pages: data of none": (HVM_START + page_list(1 | 0xF << 60, data=bytes(4096)), "expected 16 "),
    "pages: type": (HVM_START + page_list(1, 2 | 5 << 60, data=bytes(8192)), "1 has the unknown type 0x50"),
    "pages: pinned nothing": (HVM_START + page_list(8 << 60, data=bytes(4096)), "the unknown type 0x80"),
    "pages: reserved": (HVM_START + page_list(1 << 56, data=bytes(4096)), "the unknown type 0x01"),
    "pages: high": (HVM_START + page_list(1 << 40, data=bytes(4096)),
                    "pfn 0x10000000000 has more than 40 bits"),
    "pages: outside": (PV_START + PV_P2M + page_list(512, data=bytes(4096)), "pfn 0x200 is above the last"),
    # Registers.
    "vcpu: width": (PV_START + PV_P2M + ONE_PAGE + vcpu(4, 2800), "has 2800 bytes: expected 5168"),
    "vcpu: number": (PV_START + PV_P2M + ONE_PAGE + vcpu(4, 5168, 8192), "vcpu 8192"),
    "vcpu: head": (PV_START + PV_P2M + ONE_PAGE + record(4, bytes(4)), "X86_PV_VCPU_BASIC .*its length is 4"),
    "vcpu: extended": (PV_START + PV_P2M + ONE_PAGE + vcpu(4, 5168) + vcpu(5, 129), "at most 128"),
    "vcpu: xsave": (PV_START + PV_P2M + ONE_PAGE + vcpu(4, 5168) + vcpu(6, 15), "at least 16"),
    "vcpu: msrs": (PV_START + PV_P2M + ONE_PAGE + vcpu(4, 5168) + vcpu(0xC, 17), "a multiple of 16"),
    "vcpu: order": (PV_START + PV_P2M + ONE_PAGE + vcpu(6, 16),
                    "X86_PV_VCPU_BASIC of vcpu 0 must come before it"),
    "vcpu: first": (PV_START + PV_P2M + ONE_PAGE + record(7, bytes(4096)) + vcpu(4, 5168, 1) + record(END),
                    "END .*X86_PV_VCPU_BASIC of vcpu 0 must come before it"),
    "hvm: context": (HVM_START + ONE_PAGE + record(9), "HVM_CONTEXT .*its length is 0"),
    "hvm: context's size": (HVM_START + ONE_PAGE + record(9, length=(64 << 20) + 1),
                            "HVM_CONTEXT .*its length"),
    "hvm: params": (HVM_START + ONE_PAGE + record(0xA, struct.pack("<IIQQ", 2, 0, 1, 1)),
                    "claims 2 parameters"),
    "hvm: param": (HVM_START + ONE_PAGE + record(0xA, struct.pack("<IIQQ", 1, 0, 256, 1)),
                   "parameter is 256"),
    "hvm: param twice": (HVM_START + ONE_PAGE + record(0xA, struct.pack("<II4Q", 2, 0, 1, 1, 1, 2)),
                         "set twice"),
    # Of the other kind of guest.
    "hvm: pv info": (image(2) + record(2, bytes([8, 4, 0, 0, 0, 0, 0, 0])),
                     "HVM guests have no such"),
    "pv: context": (PV_START + PV_P2M + ONE_PAGE + record(9, b"x"), "PV guests have no such"),
    "libxl: twice": (encoded(SAMPLES["libxl-pv"])[:-8] + record(1), "not expected here"),
    "libxl: emulator": (encoded(SAMPLES["libxl-pv"])[:-8] + record(2, struct.pack("<II", 3, 0)),
                        "model is 3"),
    "libxl: instance": (encoded(SAMPLES["libxl-pv"])[:-8] + record(3, struct.pack("<II", 2, 256)), "is 256"),
    "libxl: pairs": (encoded(SAMPLES["libxl-pv"])[:-8] + record(2, struct.pack("<II", 2, 0) + b"key\0"),
                     "pairs"),
    "libxl: early": (struct.pack(">8sII", b"LibxlFmt", 2, 0) + record(2, struct.pack("<II", 2, 0)),
                     "expected"),
    "no checkpoint": (encoded(SAMPLES["libxl-pv"])[:-8] + record(4), "CHECKPOINT_END .*not expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_malformed_is_refused_by_name(name: str) -> None:
    data, complaint = HOSTILE[name]
    with pytest.raises(DecodeError, match=complaint) as caught:
        decoded(data, strict=False)
    assert " at byte " in str(caught.value)


def test_no_memory_is_taken_for_what_is_only_claimed() -> None:
    claims = [
        XL_HEAD + struct.pack("<4I", 0x01020304, 3, 0, 16 << 20),
        HVM_START + ONE_PAGE + record(9, length=64 << 20),
        PV_START + record(3, length=8 + 8 * 2**23),
        HVM_START + record(PAGE_DATA, struct.pack("<II", 1 << 20, 0), length=128 << 20),
    ]
    tracemalloc.start()
    for data in claims:
        reader = s.Reader()
        list(reader.feed(data))
        with pytest.raises(DecodeError, match="ends at byte"):
            reader.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_large_guest_is_never_in_memory() -> None:
    batch, total = 1024, 8

    def pieces() -> Iterator[bytes]:
        yield HVM_START
        for number in range(total):
            words = array("Q", range(number * batch, (number + 1) * batch))
            if sys.byteorder == "big":
                words.byteswap()
            yield record(PAGE_DATA, struct.pack("<II", batch, 0) + words.tobytes(), length=8 + batch * 4104)
            for _ in range(batch // 64):
                yield bytes(64 * 4096)

    reader, pages = s.Reader(), 0
    tracemalloc.start()
    for piece in pieces():
        for event in reader.feed(piece):
            if isinstance(event, s.Pages):
                pages += len(event.pfns)
                assert len(event.data) == 4096 * len(event.pfns) <= 1 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pages == batch * total
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("name", "offset"),
    [("header", 18), ("domain header", 30), ("X86_PV_INFO", 52), ("PAGE_DATA", 4), ("X86_PV_VCPU_XSAVE", -1)],
)
def test_reserved_bytes_are_ignored_unless_strict(name: str, offset: int) -> None:
    data = bytearray(encoded(SAMPLES["pv"]))
    found = {unit.place.name: unit.place for unit in reversed(units(bytes(data)))}
    place = found.get(name)
    at = offset if place is None or "header" in name else place.offset + 8 + offset
    if offset < 0:
        assert place is not None
        at = place.offset + place.size - 1
    if name == "X86_PV_INFO":
        assert place is not None
        at = place.offset + 12
    assert data[at] == 0
    data[at] = 1
    assert typed(decoded(bytes(data), strict=False)) == typed(SAMPLES["pv"])
    assert "not zero" in refused(bytes(data), strict=True)


# The writer.


def written(events: list[s.Event]) -> s.Writer:
    writer = s.Writer()
    for event in events:
        writer.encode(event)
    return writer


PV_EVENTS = SAMPLES["pv"]
AT_PAGES = next(at for at, event in enumerate(PV_EVENTS) if isinstance(event, s.PageData))
MISUSE = {
    "a record first": ([], s.LibxcEnd(), "LibxcEnd came before a header"),
    "contents first": ([], s.Pages(array("Q", [1]), b"\0", memoryview(bytes(4096))), "not the pages"),
    "a header twice": (PV_EVENTS[:1], s.ImageHeader("little"), "not expected here"),
    "a version": ([], s.ImageHeader("little", 4), "version is 4"),
    "pages before the p2m": (PV_EVENTS[:6], PV_EVENTS[AT_PAGES], "X86_PV_P2M_FRAMES must come before it"),
    "the next record": (PV_EVENTS[: AT_PAGES + 1], streams.TSC, "write the contents of 3 pages first"),
    "other pages": (PV_EVENTS[: AT_PAGES + 1], s.Pages(array("Q", [1]), b"\1", memoryview(bytes(4096))),
                    "not the pages whose contents come next"),
    "half a page": (PV_EVENTS[: AT_PAGES + 1], s.Pages(array("Q", [0]), b"\0", memoryview(bytes(2048))),
                    "1 pages have 2048 bytes"),
    "a page type": (PV_EVENTS[:AT_PAGES], s.PageData(array("Q", [1]), b"\x05"), "0x5 is not a page type"),
    "a pfn": (PV_EVENTS[:AT_PAGES], s.PageData(array("Q", [1 << 40]), b"\0"), "more than 40 bits"),
    "types": (PV_EVENTS[:AT_PAGES], s.PageData(array("Q", [1, 2]), b"\0"), "2 pfns have 1 types"),
    "no page": (PV_EVENTS[:AT_PAGES], s.PageData(array("Q"), b""), "the number of pages is 0"),
    "too many pages": (PV_EVENTS[:AT_PAGES], s.PageData(array("Q", range(32767)), bytes(32767)),
                       "length of PAGE_DATA"),
    "a context": (PV_EVENTS[:-6], s.PvVcpu(BASIC, 0, bytes(10)), "has 10 bytes: expected 5168"),
    "no such part": (PV_EVENTS[:-6], s.PvVcpu(s.RecordType.PAGE_DATA, 0, b""), "is not a record"),
    "a number": (PV_EVENTS[:-6], s.PvVcpu(BASIC, 2**32, bytes(5168)), "does not fit"),
    "the end": (PV_EVENTS[:-2], s.PvInfo(8, 4), "second one"),
    "after the end": (PV_EVENTS, s.LibxcEnd(), "is complete"),
    "skipped": (PV_EVENTS[:-2], s.Skipped("libxc", 0x80000001, 8), "are unknown"),
    "xl's flags": ([], s.XlHeader("little", s.XlFlag.JSON, b"{}"), "lack STREAM_V2"),
    "rest alone": ([], s.XlHeader("little", s.XlFlag.STREAM_V2, None, 0, b"more"), "is None"),
    "too much state": ([*streams.libxl(PV_EVENTS)[:-1], s.EmulatorContext(s.Emulator.UNKNOWN, 0, 3)],
                       s.EmulatorData(memoryview(b"four")), "only 3 are missing"),
    "too little state": ([*streams.libxl(PV_EVENTS)[:-1], s.EmulatorContext(s.Emulator.UNKNOWN, 0, 3)],
                         s.LibxlEnd(), "3 bytes of the device model's state must be written first"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSE)
def test_the_writer_refuses(name: str) -> None:
    before, event, complaint = MISUSE[name]
    writer = written(before)
    with pytest.raises(ValueError, match=complaint):
        writer.encode(event)


def test_what_the_writer_refused_leaves_nothing_behind() -> None:
    writer, data = s.Writer(), b""
    for event in PV_EVENTS:
        for wrong in (s.PvInfo(8, 3), s.EmulatorData(memoryview(b"x")), s.LibxlEnd()):
            with pytest.raises(ValueError, match="."):
                writer.encode(wrong)
        data += b"".join(bytes(piece) for piece in writer.encode(event))
    assert writer.finished
    assert data == encoded(PV_EVENTS)


def test_contents_can_be_written_in_pieces_and_are_not_copied() -> None:
    pfns, contents = array("Q", range(4)), bytearray(b"0123" * 4096)
    writer = written(SAMPLES["hvm"][:5])
    head = b"".join(bytes(piece) for piece in writer.encode(s.PageData(pfns, bytes(4))))
    view = memoryview(contents)
    pieces = [
        *writer.encode(s.Pages(pfns[:1], bytes(1), view[:4096])),
        *writer.encode(s.Pages(pfns[1:], bytes(3), view[4096:])),
    ]
    assert all(isinstance(piece, memoryview) and piece.obj is contents for piece in pieces)
    assert head + b"".join(pieces) == page_list(0, 1, 2, 3, data=bytes(contents))


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
