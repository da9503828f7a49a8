# SPDX-License-Identifier: MIT
"""Reads the stream of a guest: bytes in, events out. It does no input or output."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple, TypeVar

from pyxc import errors
from pyxc.guest.stream import layout, pages
from pyxc.guest.stream.layout import Codec
from pyxc.guest.stream.pages import Malformed
from pyxc.guest.stream.records import (
    OPTIONAL,
    PAGE_BYTES,
    ByteOrder,
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
)
from pyxc.guest.stream.rules import Rules, State

_T = TypeVar("_T")
_Type = TypeVar("_Type", RecordType, LibxlRecordType)
_Parser = Generator[Event | None, None, _T]
"""Yields events, and None where it needs more bytes."""

_SNIFFED_BYTES = 8
_PIECE_MOST_PAGES = 256
_PIECE_MOST_BYTES = 1 << 20
_ALIGNMENT = 8
_REFUSED: dict[tuple[Layer, int], str] = {
    ("libxc", RecordType.TOOLSTACK): "no released Xen writes this record",
    ("libxc", RecordType.CHECKPOINT_DIRTY_PFN_LIST): "streams of COLO are not supported",
    ("libxl", LibxlRecordType.CHECKPOINT_STATE): "streams of COLO are not supported",
}


class Place(NamedTuple):
    """Where a header or a record is in a stream, and its size, padding included: "libxc", "PAGE_DATA", 2223,
    4202504."""

    layer: Layer
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.layer} {self.name} at byte {self.offset}"


class Reader:
    """Decodes a stream of any of the three layers: a file of xl, libxl's stream, or only libxc's.

    reader = Reader()
    while not reader.finished and (data := file.read(1 << 18)):
        for event in reader.feed(data):
            ...
    reader.close()

    `strict` also refuses what a restorer must ignore: reserved fields and padding that are not zero. Then
    Writer turns the events into the same bytes (except Skipped ones).

    `finished`: the end of the stream was read; `unused` are bytes after it, as in a migration. `place` is the
    position of the last event. At most one record is kept in memory, for PAGE_DATA only the list of pages.
    The contents of these come as Pages; a caller that reads them itself, to where they belong, takes what was
    fed of them with take_contents(), and reports with passed() what it has read.
    DecodeError, which names record and offset, for malformed, misplaced or repeated records; afterwards every
    call raises it. Threads: one at a time.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.place = Place("xl", "header", 0, _SNIFFED_BYTES)
        self.finished = False
        self.unused = b""
        self._strict = strict
        self._rules = Rules()
        self._order: dict[Layer, ByteOrder] = {}
        self._fed = memoryview(b"")
        self._at = 0
        self._offset = 0
        self._contents_due = 0
        self._error: str | None = None
        self._parser = self._parse()

    @property
    def offset(self) -> int:
        """The number of bytes read."""
        return self._offset

    @property
    def due(self) -> int:
        """The number of bytes that must follow: the rest of the header or record that is being read."""
        return max(0, self.place.offset + self.place.size - self._offset)

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Event]:
        """The events that are completed by further bytes. Take all of them before feeding more."""
        self._raise_again()
        if self._at < len(self._fed):
            raise ValueError("take all events of the previous bytes before feeding more")
        self._fed = memoryview(data).cast("B")
        self._at = 0
        return self._events()

    def take_contents(self, into: memoryview) -> int:
        """Copy the next contents of pages into a buffer, as far as they were fed; returns how many bytes."""
        found = self._some(min(len(into), self._contents_due))
        into[: len(found)] = found
        self._contents_due -= len(found)
        return len(found)

    def passed(self, size: int) -> None:
        """The next bytes, all of them contents of pages, are not fed, since the caller has read them.

        Whole pages must have been taken or passed before the next event.
        """
        if not 0 <= size <= self._contents_due or size and self._at < len(self._fed):
            raise ValueError(f"{size} bytes are not the next contents of pages")
        self._contents_due -= size
        self._offset += size

    def close(self) -> None:
        """There are no more bytes. DecodeError if the stream is truncated."""
        if self._error is None and not self.finished:
            where = "inside" if self._offset < self.place.offset + self.place.size else "after"
            self._error = f"the stream ends at byte {self._offset}, {where} {self.place}"
        self._raise_again()

    def _raise_again(self) -> None:
        if self._error is not None:
            raise errors.DecodeError(self._error)

    def _events(self) -> Iterator[Event]:
        while self._error is None and not self.finished:
            try:
                event = next(self._parser, None)
            except Malformed as error:
                self._error = f"{self.place}: {error}"
                raise errors.DecodeError(self._error) from error
            self.finished = self._rules.state is State.END
            if event is None:
                break
            yield event
        self._raise_again()
        if self.finished:
            self.unused += self._fed[self._at :]
        # The fed bytes belong to the caller again.
        self._fed, self._at = memoryview(b""), 0

    # Bytes.

    def _some(self, most: int) -> memoryview:
        """Up to `most` of the available bytes."""
        found = self._fed[self._at : self._at + most]
        self._at += len(found)
        self._offset += len(found)
        return found

    def _take(self, size: int) -> _Parser[bytes]:
        """Exactly `size` bytes. Memory is allocated for received bytes only, whatever a length claims."""
        if len(self._fed) - self._at >= size:
            return self._ready(size)
        gathered = bytearray()
        while True:
            gathered += self._some(size - len(gathered))
            if len(gathered) == size:
                return bytes(gathered)
            yield None

    def _ready(self, size: int) -> bytes:
        """The same if these bytes were fed, else none: most records need no parser for their parts."""
        end = self._at + size
        if end > len(self._fed):
            return b""
        found = bytes(self._fed[self._at : end])
        self._at = end
        self._offset += size
        return found

    def _skip(self, size: int) -> _Parser[None]:
        while size:
            size -= len(self._some(size))
            if size:
                yield None

    def _padding(self, length: int) -> _Parser[None]:
        data = yield from self._take(-length % _ALIGNMENT)
        if self._strict and any(data):
            raise Malformed("its padding is not zero")

    def _same(self, data: bytes, encoded: bytes) -> None:
        if self._strict and data != encoded:
            raise Malformed("a reserved field is not zero")

    # The layers.

    def _parse(self) -> _Parser[None]:
        yield from self._admitted((yield from self._begin()))
        units: dict[State, Callable[[], _Parser[Event]]] = {
            State.XL: self._libxl_header,
            State.LIBXL: self._libxl_record,
            State.CONTEXT: self._image_header,
            State.IMAGE: self._domain_header,
            State.LIBXC: self._libxc_record,
            State.CHECKPOINT: self._libxl_record,
            State.TAIL: self._libxl_record,
        }
        while self._rules.state is not State.END:
            yield from self._admitted((yield from units[self._rules.state]()))

    def _admitted(self, event: Event) -> _Parser[None]:
        """One event, with its contents."""
        self._rules.admit(event)
        yield event
        if isinstance(event, PageData):
            if self._contents_due:
                yield from self._pages(event)
        elif isinstance(event, EmulatorContext):
            yield from self._emulator_data(event)
        elif isinstance(event, Skipped):
            yield from self._skip(event.length + -event.length % _ALIGNMENT)

    def _begin(self) -> _Parser[Event]:
        head = yield from self._take(_SNIFFED_BYTES)
        if head == layout.LIBXC_MAGIC:
            return (yield from self._image_header(head))
        if head == layout.LIBXL_MAGIC:
            return (yield from self._libxl_header(head))
        if not layout.XL_MAGIC.startswith(head):
            raise Malformed(
                f"this is not a saved guest: it begins with {head.hex()}, unlike those of Xen 4.6 and later"
            )
        head += yield from self._take(layout.XL_HEAD_BYTES - len(head))
        size = layout.xl_size(head)
        self.place = Place("xl", "header", 0, layout.XL_HEAD_BYTES + size)
        data = yield from self._take(size)
        event = layout.decode_xl(head, data)
        self._same(head + data, layout.encode_xl(event))
        return event

    def _libxl_header(self, begun: bytes = b"") -> _Parser[LibxlHeader]:
        size = layout.LIBXL_HEADER_BYTES
        self.place = Place("libxl", "header", self._offset - len(begun), size)
        data = begun + (yield from self._take(size - len(begun)))
        event = layout.decode_libxl(data)
        self._same(data, layout.encode_libxl(event))
        self._order["libxl"] = event.byteorder
        return event

    def _image_header(self, begun: bytes = b"") -> _Parser[ImageHeader]:
        size = layout.IMAGE_HEADER_BYTES
        self.place = Place("libxc", "image header", self._offset - len(begun), size)
        data = begun + (yield from self._take(size - len(begun)))
        event = layout.decode_image(data)
        self._same(data, layout.encode_image(event))
        self._order["libxc"] = event.byteorder
        return event

    def _domain_header(self) -> _Parser[Event]:
        size = layout.DOMAIN_HEADER_BYTES
        self.place = Place("libxc", "domain header", self._offset, size)
        data = yield from self._take(size)
        event = layout.decode_domain(data, self._order["libxc"])
        self._same(data, layout.encode_domain(event, self._order["libxc"]))
        return event

    # Records.

    def _libxl_record(self) -> _Parser[Event]:
        code, length = yield from self._head("libxl")
        if code & OPTIONAL:
            return Skipped("libxl", code, length)
        kind = self._known("libxl", LibxlRecordType, code)
        if kind is LibxlRecordType.EMULATOR_CONTEXT:
            return (yield from self._emulator_context(length))
        return (yield from self._body("libxl", layout.LIBXL[kind], length))

    def _libxc_record(self) -> _Parser[Event]:
        code, length = yield from self._head("libxc")
        if code & OPTIONAL:
            return Skipped("libxc", code, length)
        kind = self._known("libxc", RecordType, code)
        layout.bounded("its length", length, layout.RECORD_MOST_BYTES)
        if kind is RecordType.PAGE_DATA:
            return (yield from self._page_list(length))
        return (yield from self._body("libxc", layout.LIBXC[kind], length))

    def _head(self, layer: Layer) -> _Parser[tuple[int, int]]:
        offset = self._offset
        size = layout.RECORD_HEAD_BYTES
        head = self._ready(size) or (yield from self._take(size))
        code, length = struct.unpack(f"{layout.prefix(self._order[layer])}II", head)
        size = len(head) + length + -length % _ALIGNMENT
        self.place = Place(layer, f"record type {code:#x}", offset, size)
        return code, length

    def _known(self, layer: Layer, kinds: type[_Type], code: int) -> _Type:
        """The type of a record, if it can be read."""
        try:
            kind = kinds(code)
        except ValueError:
            raise Malformed("its type is mandatory and unknown") from None
        self.place = Place(layer, kind.name, self.place.offset, self.place.size)
        if (layer, kind) in _REFUSED:
            raise Malformed(f"it is refused: {_REFUSED[layer, kind]}")
        return kind

    def _body(self, layer: Layer, codec: Codec, length: int) -> _Parser[Event]:
        codec.check(length)
        body = yield from self._take(length)
        yield from self._padding(length)
        event = codec.decode(body, self._order[layer])
        if self._strict:
            self._same(body, codec.encode(event, self._order[layer]))
        return event

    def _page_list(self, length: int) -> _Parser[PageData]:
        order = self._order["libxc"]
        layout.bounded("its length", length, layout.RECORD_MOST_BYTES, layout.PAGE_DATA_HEAD_BYTES + 8)
        size = layout.PAGE_DATA_HEAD_BYTES
        head = self._ready(size) or (yield from self._take(size))
        count, reserved = struct.unpack(f"{layout.prefix(order)}II", head)
        most = min(layout.PAGES_MOST, (length - len(head)) // 8)
        layout.bounded("its number of pages", count, most, 1)
        event = pages.split(self._ready(8 * count) or (yield from self._take(8 * count)), order)
        contents = PAGE_BYTES * event.nr_data()
        expected = len(head) + 8 * count + contents
        if length != expected:
            raise Malformed(f"it has {length} bytes: expected {expected} for its {count} pages")
        if self._strict and reserved:
            raise Malformed("a reserved field is not zero")
        self._contents_due = contents
        return event

    def _pages(self, event: PageData) -> _Parser[None]:
        """The contents that the caller has not taken or passed, in pieces: whole pages as they were fed, and
        separately a page that was fed in parts."""
        rest = pages.with_data(event)
        while self._contents_due:
            left, odd = divmod(self._contents_due, PAGE_BYTES)
            if odd:
                raise ValueError("a part of a page was taken or passed")
            ready = min((len(self._fed) - self._at) // PAGE_BYTES, left, _PIECE_MOST_PAGES)
            count = ready or 1
            part = slice(len(rest.pfns) - left, len(rest.pfns) - left + count)
            pfns, types = rest.pfns[part], rest.types[part]
            self._contents_due -= count * PAGE_BYTES
            if ready:
                # Not a variable: no view of the fed bytes may remain here.
                yield Pages(pfns, types, self._some(ready * PAGE_BYTES))
            else:
                page = yield from self._take(PAGE_BYTES)
                yield Pages(pfns, types, memoryview(page))

    def _emulator_context(self, length: int) -> _Parser[EmulatorContext]:
        layout.bounded("its length", length, 2**32 - 1, layout.EMULATOR_HEAD_BYTES)
        head = yield from self._take(layout.EMULATOR_HEAD_BYTES)
        emulator, instance = layout.decode_emulator(head, self._order["libxl"])
        return EmulatorContext(emulator, instance, length - len(head))

    def _emulator_data(self, event: EmulatorContext) -> _Parser[None]:
        left = event.size
        while left:
            ready = min(left, _PIECE_MOST_BYTES, len(self._fed) - self._at)
            left -= ready
            yield EmulatorData(self._some(ready)) if ready else None
        yield from self._padding(event.size)
