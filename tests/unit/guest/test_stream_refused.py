# SPDX-License-Identifier: MIT
"""Streams of saved guests that lack something, or have something wrong, and how the reader refuses them."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from array import array
from collections.abc import Iterator

import pytest
from streams import (
    END,
    HVM_START,
    ONE_PAGE,
    PAGE_DATA,
    PV_P2M,
    PV_START,
    SAMPLES,
    decoded,
    encoded,
    image,
    page_list,
    record,
    typed,
    units,
)

from pyxc import DecodeError
from pyxc.guest import stream as s

SAMPLE = pytest.mark.parametrize("name", SAMPLES)
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
        with pytest.raises(DecodeError, match="xl header at byte 0: .* it begins with 6e6f"):
            call()


def vcpu(part: int, size: int, number: int = 0) -> bytes:
    return record(part, struct.pack("<II", number, 0) + bytes(size))


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
