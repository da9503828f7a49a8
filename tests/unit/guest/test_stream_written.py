# SPDX-License-Identifier: MIT
"""The writer of streams of saved guests: what it refuses, and that it copies nothing."""

from __future__ import annotations

from array import array

import pytest
import streams
from streams import BASIC, SAMPLES, encoded, page_list

from pyxc.guest import stream as s


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
