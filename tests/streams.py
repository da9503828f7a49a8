# SPDX-License-Identifier: MIT
"""Streams of saved guests for tests: small ones that are made here, and two that Xen's own tools wrote.

`xl save` of Xen 4.17 wrote those in tests/saved, of the small guests of lab/guests: "pv", which suspended
itself, and "pvh", which was suspended from outside. The second is compressed with xz's delta filter of 8
bytes, since most of it is a list of a million pages that do not exist.
"""

from __future__ import annotations

import gzip
import struct
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pyxc import TscMode
from pyxc.domain.tsc import TscInfo
from pyxc.guest import stream as s
from pyxc.guest.stream.records import ByteOrder
from pyxc.host.cpu_policy import CpuidLeaf, Msr

SAVED = Path(__file__).parent / "saved"
CONFIG = b'{"c_info": {"type": "pv", "name": "web1", "uuid": "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01"}}\0'
NOTAB, L1TAB, L4TAB_PIN, BROKEN, XALLOC, XTAB = 0x0, 0x1, 0xC, 0xD, 0xE, 0xF
BASIC, EXTENDED, XSAVE, MSRS = (
    s.RecordType.X86_PV_VCPU_BASIC,
    s.RecordType.X86_PV_VCPU_EXTENDED,
    s.RecordType.X86_PV_VCPU_XSAVE,
    s.RecordType.X86_PV_VCPU_MSRS,
)
HVM_HEADER = (0x54381286, 2, 0, 0, 1000)
TSC = TscInfo(TscMode.DEFAULT, 2_400_000, 1, 123_456_789_012)
_STATIC = [
    s.CpuidPolicy((CpuidLeaf(0, 0xFFFFFFFF, 13, 1, 2, 3), CpuidLeaf(7, 0, 4, 5, 6, 7))),
    s.MsrPolicy((Msr(0xCE, 1 << 31), Msr(0x10A, 0x2000000000000000))),
    s.StaticDataEnd(),
]


def recorded_pv() -> bytes:
    return gzip.decompress((SAVED / "pv.save.gz").read_bytes())


def recorded_pvh() -> bytes:
    # Not every Python that runs tests has it.
    import lzma

    return lzma.decompress((SAVED / "pvh.save.xz").read_bytes())


def page(fill: int) -> bytes:
    return bytes([fill]) * 4096


def page_data(pairs: Iterable[tuple[int, int]]) -> list[s.Event]:
    """PAGE_DATA of pfns and types; the contents of a page are its pfn, over and over."""
    listed = s.PageData(array("Q"), b"")
    filled = s.Pages(array("Q"), b"", memoryview(b""))
    for pfn, kind in pairs:
        listed = s.PageData(listed.pfns + array("Q", [pfn]), listed.types + bytes([kind]))
        if kind < BROKEN:
            data = bytes(filled.data) + page(pfn & 0xFF)
            filled = s.Pages(filled.pfns + array("Q", [pfn]), filled.types + bytes([kind]), memoryview(data))
    return [listed, filled] if filled.pfns else [listed]


def pv(bits: int = 64, byteorder: ByteOrder = "little", version: int = 3) -> list[s.Event]:
    """A PV guest of 1500 pfns, of which four have contents, and two vcpus."""
    width, levels, context = (8, 4, 5168) if bits == 64 else (4, 3, 2800)
    frames = array("Q", [3, 4, 5] if bits == 64 else [3, 4])
    return [
        s.ImageHeader(byteorder, version),
        s.DomainHeader(s.DomainKind.PV, 4, 17 if version == 3 else 8),
        s.PvInfo(width, levels),
        *(_STATIC if version == 3 else ()),
        s.PvP2mFrames(0, 1499, frames),
        *page_data([(0, NOTAB), (1, L1TAB), (2, L4TAB_PIN), (7, XTAB)]),
        *page_data([(1499, NOTAB), (8, XALLOC), (9, BROKEN)]),
        TSC,
        s.SharedInfo(page(0x51)),
        s.PvVcpu(BASIC, 0, b"b" * context),
        s.PvVcpu(EXTENDED, 0, b"e" * 64),
        s.PvVcpu(XSAVE, 0, b"x" * 20),
        s.PvVcpu(BASIC, 1, b"c" * context),
        s.PvVcpu(MSRS, 1, b"m" * 32),
        s.LibxcEnd(),
    ]


def hvm_context(byteorder: ByteOrder = "little", vcpus: int = 1) -> bytes:
    """HEADER, a CPU record for each vcpu, END."""

    def record(kind: int, instance: int, body: bytes) -> bytes:
        numbers = (kind, 2), (instance, 2), (len(body), 4)
        return b"".join(number.to_bytes(size, byteorder) for number, size in numbers) + body

    sizes = zip(HVM_HEADER, (4, 4, 8, 4, 4))
    header = b"".join(number.to_bytes(size, byteorder) for number, size in sizes)
    cpus = b"".join(record(2, vcpu, bytes(1032)) for vcpu in range(vcpus))
    return record(1, 0, header) + cpus + record(0, 0, b"")


def hvm(byteorder: ByteOrder = "little", version: int = 3) -> list[s.Event]:
    """An HVM or PVH guest of three pages and three vcpus."""
    return [
        s.ImageHeader(byteorder, version),
        s.DomainHeader(s.DomainKind.HVM, 4, 17 if version == 3 else 8),
        *(_STATIC if version == 3 else ()),
        *page_data([(0, NOTAB), (1, XTAB), (0xFEFFF, NOTAB)]),
        *page_data([(1, XTAB), (2, XTAB)]),
        s.Verify(),
        *page_data([(0, NOTAB)]),
        TSC,
        s.HvmContextRecord(hvm_context(byteorder, vcpus=3)),
        s.HvmParams(((1, 0xFEFFC), (17, 0xFEFFF), (12, 0xFEFFE000))),
        s.LibxcEnd(),
    ]


def device_model(emulator: s.Emulator = s.Emulator.QEMU_UPSTREAM) -> list[s.Event]:
    """What libxl saves of a device model."""
    return [
        s.EmulatorXenstoreData(emulator, 0, b"physmap/1/start_addr\0f0000000\0physmap/1/name\0vga\0"),
        s.EmulatorContext(emulator, 0, 9),
        s.EmulatorData(memoryview(b"QEVM state")[:9]),
    ]


def libxl(inner: list[s.Event], byteorder: ByteOrder = "little", model: bool = False) -> list[s.Event]:
    tail = device_model() if model else []
    return [s.LibxlHeader(byteorder), s.LibxcContext(), *inner, *tail, s.LibxlEnd()]


def xl(inner: list[s.Event], byteorder: ByteOrder = "little", config: bytes = CONFIG) -> list[s.Event]:
    return [s.XlHeader(byteorder, s.XlFlag.JSON | s.XlFlag.STREAM_V2, config), *inner]


def remus() -> list[s.Event]:
    """Two rounds of a guest whose checkpoints are sent to a second host."""
    guest = hvm()
    first = [event for event in guest[:-1] if not isinstance(event, s.Verify)]
    round_two = [event for event in first if not isinstance(event, s.ImageHeader | s.DomainHeader)][3:]
    checkpoint = [s.Checkpoint(), *device_model(), s.CheckpointEnd()]
    return [s.LibxlHeader("little"), s.LibxcContext(), *first, *checkpoint, *round_two, s.LibxcEnd(),
            *device_model(), s.LibxlEnd()]  # fmt: skip


SAMPLES: dict[str, list[s.Event]] = {
    "pv": pv(),
    "pv-32": pv(32),
    "pv-big": pv(64, "big"),
    "pv-version-2": pv(64, version=2),
    "hvm": hvm(),
    "hvm-big": hvm("big"),
    "hvm-version-2": hvm(version=2),
    "libxl-pv": libxl(pv()),
    "libxl-hvm": libxl(hvm(), model=True),
    "libxl-big": libxl(hvm("big"), "big", model=True),
    "xl-pv": xl(libxl(pv())),
    "xl-hvm": xl(libxl(hvm(), model=True)),
    "xl-big": xl(libxl(pv(32, "big"), "big"), "big"),
    "remus": remus(),
}
"""Whole streams, by what they are."""


def encoded(events: Iterable[s.Event]) -> bytes:
    writer = s.Writer()
    return b"".join(bytes(piece) for event in events for piece in writer.encode(event))


def decoded(data: bytes, size: int | None = None, strict: bool = True) -> list[s.Event]:
    """The events of a stream, fed in pieces of the given size."""
    reader = s.Reader(strict=strict)
    size = size or len(data)
    found: list[s.Event] = []
    for start in range(0, len(data), size):
        found += reader.feed(data[start : start + size])
    reader.close()
    return found


def joined(events: Iterable[s.Event]) -> Iterator[s.Event]:
    """The same events, with consecutive pieces of contents as one."""
    held: s.Pages | s.EmulatorData | None = None
    for event in events:
        if isinstance(event, s.Pages) and isinstance(held, s.Pages):
            data = memoryview(bytes(held.data) + bytes(event.data))
            held = s.Pages(held.pfns + event.pfns, held.types + event.types, data)
        elif isinstance(event, s.EmulatorData) and isinstance(held, s.EmulatorData):
            held = s.EmulatorData(memoryview(bytes(held.data) + bytes(event.data)))
        else:
            if held is not None:
                yield held
            held = event if isinstance(event, s.Pages | s.EmulatorData) else None
            if held is None:
                yield event


def typed(events: Iterable[s.Event]) -> list[tuple[type, s.Event]]:
    """With their types, because tuples of different types can be equal."""
    return [(type(event), event) for event in joined(events)]


class Unit(NamedTuple):
    """A header or a record of a stream, complete."""

    place: s.Place
    data: bytes


def units(data: bytes) -> list[Unit]:
    """A stream, cut into its headers and records."""
    reader = s.Reader()
    places = [reader.place for event in reader.feed(data) if not isinstance(event, s.Pages | s.EmulatorData)]
    return [Unit(place, data[place.offset : place.offset + place.size]) for place in places]


# As the specification lays them out.

END, PAGE_DATA = 0, 1


def record(kind: int, body: bytes = b"", order: str = "<", length: int | None = None) -> bytes:
    claimed = len(body) if length is None else length
    return struct.pack(f"{order}II", kind, claimed) + body + bytes(-len(body) % 8)


def image(kind: int, order: str = "<", version: int = 3, major: int = 4, minor: int = 17) -> bytes:
    header = struct.pack(">QIIHHI", 2**64 - 1, 0x58454E46, version, order == ">", 0, 0)
    return header + struct.pack(f"{order}IHHII", kind, 12, 0, major, minor)


PV_START = image(1) + record(2, bytes([8, 4, 0, 0, 0, 0, 0, 0])) + record(0x10)
PV_P2M = record(3, struct.pack("<IIQ", 0, 511, 3))
HVM_START = image(2) + record(0x10)
ONE_PAGE = record(PAGE_DATA, struct.pack("<IIQ", 1, 0, 5) + bytes(4096))


def page_list(*words: int, count: int | None = None, length: int | None = None, data: bytes = b"") -> bytes:
    body = struct.pack(f"<II{len(words)}Q", len(words) if count is None else count, 0, *words) + data
    return record(PAGE_DATA, body, length=length)
