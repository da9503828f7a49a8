# SPDX-License-Identifier: MIT
"""A summary of a stream and its guest, without keeping the stream."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any, NamedTuple

from pyxc import errors
from pyxc.abi.hvm_save import HvmRecordType
from pyxc.abi.layout import Interface
from pyxc.abi.releases import NEWEST
from pyxc.domain.hvm_context import iter_records
from pyxc.domain.tsc import TscInfo
from pyxc.guest.stream import pages
from pyxc.guest.stream.reader import Place
from pyxc.guest.stream.records import (
    PAGE_BYTES,
    ByteOrder,
    Checkpoint,
    DomainHeader,
    DomainKind,
    EmulatorData,
    Event,
    HvmContextRecord,
    ImageHeader,
    Layer,
    LibxlHeader,
    PageData,
    Pages,
    PvInfo,
    PvVcpu,
    Skipped,
    XlHeader,
)

TYPE_NAMES = {
    0x0: "NOTAB",
    0x1: "L1TAB",
    0x2: "L2TAB",
    0x3: "L3TAB",
    0x4: "L4TAB",
    0x9: "L1TAB_PIN",
    0xA: "L2TAB_PIN",
    0xB: "L3TAB_PIN",
    0xC: "L4TAB_PIN",
    0xD: "BROKEN",
    0xE: "XALLOC",
    0xF: "XTAB",
}
"""Types of pages in PAGE_DATA, as the specification names them."""


_OPTIONAL = "optional, unknown"


class RecordCount(NamedTuple):
    """The number of records of a type, and their size in bytes."""

    layer: Layer
    name: str
    nr_records: int
    size_bytes: int


class StreamInfo(NamedTuple):
    """The summary of a stream. Values that it, or the part that was read, does not have are None.

    `layers` are from the outside in; `version` is that of libxc's stream. `vcpus` is how many were online,
    `bits` the width of a PV guest. `config` is the guest's configuration in xl's file: libxl's JSON as a
    dictionary, or text. `types` counts the pages by what PAGE_DATA calls them, each time that they are sent.
    `memory_kb` is that of the pages whose contents were sent, and `times_sent` says how many of these
    pages were sent once, twice ...: None where the guest is too large to remember each page (256 GiB).
    """

    layers: tuple[Layer, ...]
    byteorder: ByteOrder | None
    version: int | None
    converted: bool
    kind: DomainKind | None
    bits: int | None
    xen: tuple[int, int] | None
    config: dict[str, Any] | str | None
    vcpus: int
    memory_kb: int | None
    tsc: TscInfo | None
    checkpoints: int
    records: tuple[RecordCount, ...]
    types: dict[str, int]
    times_sent: dict[int, int] | None


class Summary:
    """Collects facts from Reader's events. Threads: one at a time.

    for event in reader.feed(data):
        summary.add(reader.place, event)
    """

    def __init__(self) -> None:
        self._about: dict[str, Any] = {}
        self._layers: list[Layer] = []
        self._vcpus: set[int] = set()
        self._checkpoints = 0
        self._records: dict[tuple[Layer, str], tuple[int, int]] = {}
        self._types: Counter[int] = Counter()
        self._sent = _TimesSent()

    def add(self, place: Place, event: Event) -> None:
        """Add an event with its place. DecodeError for a malformed configuration or HVM context, which Reader
        does not check."""
        if isinstance(event, Pages | EmulatorData):
            return
        if place.layer not in self._layers:
            self._layers.append(place.layer)
        # Of the types of optional records a stream may make up two billions.
        key = place.layer, _OPTIONAL if isinstance(event, Skipped) else place.name
        count, size = self._records.get(key, (0, 0))
        self._records[key] = count + 1, size + place.size
        try:
            self._note(event)
        except errors.DecodeError as error:
            raise errors.DecodeError(f"{place}: {error}") from error

    def _note(self, event: Event) -> None:
        if isinstance(event, PageData):
            self._types.update(event.types)
            self._sent.add(pages.with_data(event).pfns)
        elif isinstance(event, PvVcpu) and event.context:
            self._vcpus.add(event.vcpu)
        elif isinstance(event, HvmContextRecord):
            self._vcpus = set(_vcpus(event.data, self._about["byteorder"]))
        elif isinstance(event, Checkpoint):
            self._checkpoints += 1
        else:
            self._about.update(_about(event))

    def info(self) -> StreamInfo:
        """The summary so far."""
        times = self._sent.histogram()
        return StreamInfo(
            layers=tuple(self._layers),
            byteorder=self._about.get("byteorder"),
            version=self._about.get("version"),
            converted=self._about.get("converted", False),
            kind=self._about.get("kind"),
            bits=self._about.get("bits"),
            xen=self._about.get("xen"),
            config=self._about.get("config"),
            vcpus=len(self._vcpus),
            memory_kb=None if times is None else sum(times.values()) * PAGE_BYTES // 1024,
            tsc=self._about.get("tsc"),
            checkpoints=self._checkpoints,
            records=tuple(RecordCount(*key, *value) for key, value in self._records.items()),
            types={TYPE_NAMES[kind]: count for kind, count in sorted(self._types.items())},
            times_sent=times,
        )


def _about(event: Event) -> dict[str, Any]:
    """Fields of StreamInfo that occur once."""
    if isinstance(event, XlHeader):
        return {"config": _config(event)}
    if isinstance(event, LibxlHeader):
        return {"converted": event.converted}
    if isinstance(event, ImageHeader):
        return {"byteorder": event.byteorder, "version": event.version}
    if isinstance(event, DomainHeader):
        return {"kind": event.kind, "xen": (event.xen_major, event.xen_minor)}
    if isinstance(event, PvInfo):
        return {"bits": 8 * event.guest_width}
    return {"tsc": event} if isinstance(event, TscInfo) else {}


def _config(header: XlHeader) -> dict[str, Any] | str | None:
    settings = header.settings()
    if settings is None and header.config is not None:
        return header.config.rstrip(b"\0").decode("utf-8", "replace")
    return settings


def _vcpus(context: bytes, byteorder: ByteOrder) -> list[int]:
    """The vcpus that have registers in an HVM context."""
    found, last = [], None
    for record in iter_records(memoryview(context), Interface(NEWEST, byteorder=byteorder)):
        last = record.type
        if record.type is HvmRecordType.CPU:
            found.append(record.instance)
    if last is not HvmRecordType.END:
        raise errors.DecodeError("the HVM context lacks its END record")
    return found


class _TimesSent:
    """How often each page was sent: a byte for each, in pieces for the used parts of memory."""

    _PIECE = 1 << 12
    _PIECES_MOST = 1 << 14
    _MOST = 255
    _ONE_MORE = bytes((*range(1, 256), 255))

    def __init__(self) -> None:
        self._pieces: dict[int, bytearray] | None = {}

    def add(self, pfns: array[int]) -> None:
        start = 0
        while start < len(pfns):
            stop = self._run(pfns, start)
            self._add_run(pfns[start], stop - start)
            start = stop

    def _run(self, pfns: array[int], start: int) -> int:
        """Where the pfns from `start` on stop following one another, or a piece ends."""
        first = pfns[start]
        most = min(len(pfns), start + self._PIECE - first % self._PIECE)
        stop = start + 1
        while stop < most and pfns[stop] - first == stop - start:
            stop += 1
        return stop

    def _add_run(self, first: int, count: int) -> None:
        if self._pieces is None:
            return
        number, at = divmod(first, self._PIECE)
        piece = self._pieces.get(number)
        if piece is None:
            if len(self._pieces) == self._PIECES_MOST:
                self._pieces = None
                return
            piece = self._pieces[number] = bytearray(self._PIECE)
        piece[at : at + count] = piece[at : at + count].translate(self._ONE_MORE)

    def histogram(self) -> dict[int, int] | None:
        """Number of times, up to 255, to number of pages."""
        if self._pieces is None:
            return None
        total: Counter[int] = Counter()
        for piece in self._pieces.values():
            total.update(piece)
        del total[0]
        return dict(sorted(total.items()))
