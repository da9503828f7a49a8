# SPDX-License-Identifier: MIT
"""Writes the stream of a guest: events in, bytes out. It does no input or output."""

from __future__ import annotations

import struct
from array import array

from pyxc.guest.stream import layout, pages
from pyxc.guest.stream.pages import Malformed
from pyxc.guest.stream.records import (
    PAGE_BYTES,
    ByteOrder,
    DomainHeader,
    EmulatorContext,
    EmulatorData,
    Event,
    ImageHeader,
    Layer,
    LibxlHeader,
    LibxlRecordType,
    PageData,
    Pages,
    RecordType,
    Skipped,
    XlHeader,
)
from pyxc.guest.stream.rules import Rules, State

Piece = bytes | bytearray | memoryview


class Writer:
    """Encodes the events of a stream into the bytes that Reader decodes.

    writer = Writer()
    file.writelines(writer.encode(XlHeader("little", XlFlag.JSON | XlFlag.STREAM_V2, config)))

    The first event decides the layers. ValueError for an event that must not come now, or that Reader would
    refuse; nothing of it is written, and another one may be tried. `finished`: the stream is complete.
    Threads: one at a time.
    """

    def __init__(self) -> None:
        self._rules = Rules()
        self._order: dict[Layer, ByteOrder] = {}
        self._due = PageData(array("Q"), b"")
        self._sent = 0
        self._due_bytes = 0
        self._padding = 0

    @property
    def finished(self) -> bool:
        return self._rules.state is State.END

    def encode(self, event: Event) -> list[Piece]:
        """The bytes to send, in order. Pages and EmulatorData are not copied."""
        if self.finished:
            raise Malformed("the stream is complete")
        try:
            if isinstance(event, Pages):
                return self._pages(event)
            if isinstance(event, EmulatorData):
                return self._emulator_data(event)
            self._check_nothing_is_due()
            pieces = self._encoded(event)
        except struct.error as error:
            raise Malformed(f"{type(event).__name__} has a number that does not fit: {error}") from error
        self._rules.admit(event)
        self._note(event)
        return pieces

    def _check_nothing_is_due(self) -> None:
        pages_due = len(self._due.pfns) - self._sent
        if pages_due:
            raise Malformed(f"write the contents of {pages_due} pages first")
        if self._due_bytes:
            raise Malformed(f"{self._due_bytes} bytes of the device model's state must be written first")

    def _encoded(self, event: Event) -> list[Piece]:
        if isinstance(event, XlHeader):
            return [layout.encode_xl(event)]
        if isinstance(event, LibxlHeader):
            return [layout.encode_libxl(event)]
        if isinstance(event, ImageHeader):
            return [layout.encode_image(event)]
        if isinstance(event, Skipped):
            raise Malformed("the contents of a skipped record are unknown")
        order = self._order.get("libxc" if self._rules.state in (State.IMAGE, State.LIBXC) else "libxl")
        if order is None:
            raise Malformed(f"{type(event).__name__} came before a header")
        if isinstance(event, DomainHeader):
            return [layout.encode_domain(event, order)]
        if isinstance(event, PageData):
            return self._page_list(event, order)
        if isinstance(event, EmulatorContext):
            return self._emulator_context(event, order)
        return self._record(event, order)

    def _note(self, event: Event) -> None:
        if isinstance(event, LibxlHeader):
            self._order["libxl"] = event.byteorder
        elif isinstance(event, ImageHeader):
            self._order["libxc"] = event.byteorder
        elif isinstance(event, PageData):
            self._due, self._sent = pages.with_data(event), 0
        elif isinstance(event, EmulatorContext):
            self._due_bytes, self._padding = event.size, -event.size % 8

    def _record(self, event: Event, order: ByteOrder) -> list[Piece]:
        kind, codec = layout.codec_of(event)
        body = codec.encode(event, order)
        codec.check(len(body))
        # Decoding finds further errors, for example in the values of enumerations.
        codec.decode(body, order)
        return [_head(kind, len(body), order) + body + bytes(-len(body) % 8)]

    def _page_list(self, event: PageData, order: ByteOrder) -> list[Piece]:
        count = layout.bounded("the number of pages", len(event.pfns), layout.PAGES_MOST, 1)
        body = struct.pack(f"{layout.prefix(order)}II", count, 0) + pages.join(event, order)
        length = len(body) + PAGE_BYTES * event.nr_data()
        layout.bounded("the length of PAGE_DATA", length, layout.RECORD_MOST_BYTES)
        return [_head(RecordType.PAGE_DATA, length, order) + body]

    def _pages(self, event: Pages) -> list[Piece]:
        until = self._sent + len(event.pfns)
        expected = self._due.pfns[self._sent : until], self._due.types[self._sent : until]
        if (event.pfns, event.types) != expected:
            raise Malformed("these are not the pages whose contents come next")
        data = memoryview(event.data).cast("B")
        if len(data) != PAGE_BYTES * len(event.pfns):
            raise Malformed(f"{len(event.pfns)} pages have {len(data)} bytes of contents")
        self._sent = until
        return [data]

    def _emulator_context(self, event: EmulatorContext, order: ByteOrder) -> list[Piece]:
        head = layout.encode_emulator(event, order)
        layout.decode_emulator(head, order)
        return [_head(LibxlRecordType.EMULATOR_CONTEXT, len(head) + event.size, order) + head]

    def _emulator_data(self, event: EmulatorData) -> list[Piece]:
        data = memoryview(event.data).cast("B")
        if len(data) > self._due_bytes:
            raise Malformed(f"{len(data)} bytes of state were given, but only {self._due_bytes} are missing")
        self._due_bytes -= len(data)
        return [data] if self._due_bytes or not data else [data, bytes(self._padding)]


def _head(kind: RecordType | LibxlRecordType, length: int, order: ByteOrder) -> bytes:
    return struct.pack(f"{layout.prefix(order)}II", kind, length)
