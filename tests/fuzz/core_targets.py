# SPDX-License-Identifier: MIT
"""The native core with arbitrary arguments: each function makes those of some calls from its bytes.

What a call accepts, and what it then does, must be what its documentation says. It is computed here again,
in Python's numbers, which do not overflow.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from redzones import red_zone

from pyxc import DomainInfo
from pyxc._core import (
    PAGE_SIZE,
    Arena,
    Pool,
    Privcmd,
    RecordReader,
    SharedMemory,
    byteswap64,
    device_ioctl,
    lay_batch,
    select_frames,
)
from pyxc.link.exchange import exchange

EDGES = (
    0, 1, -1, -2, 7, 8, -8, 63, 64, -64, 4095, 4096, 4097, -4096, 2**31 - 1, 2**31, -(2**31), 2**32 - 1,
    2**32, 2**40, -(2**40), 2**48, 2**60, 2**61, 2**62, -(2**62), 2**63 - 64, 2**63 - 8, 2**63 - 1, -(2**63),
    2**63, 2**64,
)  # fmt: skip
"""What goes wrong goes wrong at one of these."""
REFUSED = (ValueError, OverflowError, MemoryError, TypeError)
_RAW = 255
_POOLED_BYTES = 64 * PAGE_SIZE
_FRAMES = 16
_FIELDS = len(DomainInfo._fields)
_CODES = {"B": 1, "b": 1, "?": 1, "H": 2, "h": 2, "I": 4, "i": 4, "Q": 8, "q": 8}
_ORDERS = (sys.byteorder, "big" if sys.byteorder == "little" else "little")


class Arguments:
    """Numbers and pieces, read one after the other. At the end all are 0 and empty.

    A number is one byte: an index into EDGES, or a small one; or `_RAW` and eight bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def rest(self, size: int | None = None) -> bytes:
        start = self._at
        self._at = len(self._data) if size is None else start + size
        return self._data[start : self._at]

    def number(self) -> int:
        kind = int.from_bytes(self.rest(1), "little")
        if kind < len(EDGES):
            return EDGES[kind]
        if kind < _RAW:
            return kind - len(EDGES)
        return int.from_bytes(self.rest(8), "little", signed=True)

    def count(self, most: int) -> int:
        return self.number() % (most + 1)

    def flag(self) -> bool:
        return bool(self.count(1))

    def size(self) -> int:
        """Bytes that memory may be asked for: few, or more than there is."""
        number = self.number()
        return number % (2 * PAGE_SIZE) if 2 * PAGE_SIZE < number < 1 << 47 else number

    def numbers(self, most: int) -> list[int]:
        return [self.number() for _ in range(self.count(most))]

    def piece(self, most: int) -> bytes:
        return self.rest(self.count(most))


def of(*values: int | bytes) -> bytes:
    """Bytes that Arguments reads these from."""
    return b"".join(value if isinstance(value, bytes) else _written(value) for value in values)


def _written(number: int) -> bytes:
    if number in EDGES:
        return bytes([EDGES.index(number)])
    if 0 <= number < _RAW - len(EDGES):
        return bytes([number + len(EDGES)])
    return bytes([_RAW]) + struct.pack("<q", number)


def inside(start: int, size: int, whole: int) -> bool:
    return start >= 0 and size >= 0 and start + size <= whole


# Hypercalls. There is no Xen: each gets ENOTTY, after its memory was laid out.


class _Device:
    byteorder = sys.byteorder

    def __init__(self) -> None:
        self.native = Privcmd("/dev/null", gate="never")
        self.pool = self.native.pool
        self.hypercall = self.native.hypercall


@cache
def _device() -> _Device:
    """A device of this process: a fuzzer forks after it has imported everything."""
    return _Device()


def exchanged(data: bytes) -> object:
    """A structure and its buffers: the result equals that of the same call in Python."""
    given = Arguments(data)
    size, before, after = given.count(512), given.number(), given.number()
    buffers: list[tuple[int, Any]] = []
    for _ in range(given.count(6)):
        place, filled = given.number(), given.flag()
        buffers.append((place, given.piece(300) if filled else given.size()))
    asked = (5, given.rest(size).ljust(size, b"."), tuple(buffers), before, after)
    total = _padded(size)
    for _, content in buffers:
        total = _padded(total + (content if isinstance(content, int) else len(content)))
    with _zone_of_the_next(_device().pool, total):
        found = _device().native.exchange(*asked)
    assert all(inside(place, 8, size) for place, _ in buffers), "a handle lies outside the structure"
    same = exchange(cast("Any", _device()), *asked)
    assert (found[0], list(found[2])) == (same[0], list(same[2]))
    assert _without_handles(found[1], buffers) == _without_handles(same[1], buffers)
    return found


def _padded(size: int) -> int:
    return (size + 63) & ~63


def _without_handles(structure: bytes, buffers: Iterable[tuple[int, Any]]) -> bytes:
    plain = bytearray(structure)
    for place, _ in buffers:
        plain[place : place + 8] = bytes(8)
    return bytes(plain)


@contextmanager
def _zone_of_the_next(pool: Pool, used: int) -> Iterator[None]:
    """A red zone in the next arena that a pool gives away, which must come back as zeros.

    What is released last is taken first.
    """
    if not 0 < used <= _POOLED_BYTES:
        yield
        return
    arena = pool.take(used)
    with red_zone(arena, used):
        arena.release(0)
        yield
    arena = pool.take(used)
    left = any(arena.view)
    arena.release()
    assert not left, "a call left something behind in its memory"


def prepared(data: bytes) -> object:
    given = Arguments(data)
    size, domid_at, body, record, domid = given.count(300), *(given.number() for _ in range(4))
    reader = RecordReader(DomainInfo, record, (None,) * _FIELDS)
    call = _device().native.prepare(5, given.rest(size).ljust(size, b"."), domid_at, reader, body)
    assert inside(body, record, size) and (domid_at == -1 or inside(domid_at, 2, size))
    with _zone_of_the_next(_device().pool, size):
        result = call.ask(domid)
    assert domid_at == -1 or 0 <= domid < 1 << 16
    return result


def asked_by_ioctl(data: bytes) -> object:
    """Requests of privcmd, unknown to the device here. Their numbers tell how long a structure is."""
    given = Arguments(data)
    request = given.number() & 0xFFFF00FF | ord("P") << 8
    structure = bytearray(given.piece(600))
    result = device_ioctl(_device().native.fd if given.flag() else -1, request, structure)
    assert len(structure) >= request >> 16 & 0x1FFF
    return result


# Structures.


class _Liar(list[int]):
    length = 0

    def __len__(self) -> int:
        return self.length


def laid(data: bytes) -> object:
    """A multicall: the bytes are those that Python would write, and no others."""
    given = Arguments(data)
    pages, count, stride, size = given.count(2) + 1, given.number(), given.number(), given.count(600)
    call, swapped = (given.number(), given.number(), given.number()), given.flag()
    columns = tuple((given.number(), given.number(), _column(given, count)) for _ in range(given.count(3)))
    request = given.rest(size).ljust(size, b".")
    fits = count >= 0 and stride >= size and (64 + stride) * count <= pages * PAGE_SIZE
    used = (64 + stride) * count if fits else 0
    arena = Pool(locked=False).take(pages * PAGE_SIZE)
    with red_zone(arena, used):
        lay_batch(arena, count, request, stride, call, columns, swapped)
    assert fits
    found = bytes(arena.view[:used])
    assert found == _expected(arena.address, count, request, stride, call, columns, _ORDERS[swapped])
    arena.release()
    return found


def _column(given: Arguments, count: int) -> Any:
    kind, length = given.count(3), count if given.flag() and 0 <= count < 300 else given.count(300)
    if kind == 0:
        return [given.number()] * length
    if kind == 1:
        return range(given.count(255), 10**6)[:length]
    if kind == 2:
        return array("Q", bytes(8 * length))
    column = _Liar(given.numbers(8))
    column.length = length
    return column


def _expected(
    start: int, count: int, request: bytes, stride: int, call: Any, columns: Any, order: Any
) -> bytes:
    number, before, after = call
    entries, structures = bytearray(), bytearray()
    lists = [list(iter(column)) for _, _, column in columns]
    for index in range(count):
        address = start + 64 * count + stride * index
        arguments = [value for value in (before, address, after) if value >= 0]
        words = [number, 0, *arguments, 0, 0, 0, 0, 0, 0][:8]
        entries += b"".join(word.to_bytes(8, order) for word in words)
        structure = bytearray(request.ljust(stride, b"\0"))
        for (offset, size, _), values in zip(columns, lists):
            assert inside(offset, size, len(request)) and len(values) == count
            structure[offset : offset + size] = values[index].to_bytes(size, order)
        structures += structure
    return bytes(entries + structures)


def records(data: bytes) -> object:
    """Records of a layout that the data itself describes, read from anywhere in the rest."""
    given = Arguments(data)
    size, at, every, swapped = given.number(), given.number(), given.flag(), given.flag()
    fields: list[Any] = [None] * _FIELDS
    for index in range(given.count(_FIELDS)):
        fields[index] = (given.number(), "BbHhIiQq?"[given.count(8)], given.number())
    reader = RecordReader(DomainInfo, size, tuple(fields), swapped)
    assert size > 0
    for offset, code, length in filter(None, fields):
        assert length > 0 and inside(offset, _CODES[code] * length, size)
    rest = given.rest()
    found = reader.all(rest) if every else [reader.one(rest, at)]
    starts = range(0, len(rest), size) if every else [at]
    assert all(inside(start, size, len(rest)) for start in starts)
    for record, start in zip(found, starts, strict=True):
        whole = rest[start : start + size]
        assert tuple(record) == tuple(field and _value(whole, *field, _ORDERS[swapped]) for field in fields)
    return [tuple(record) for record in found]


def _value(structure: bytes, offset: int, code: str, length: int, order: Any) -> object:
    unit = _CODES[code]
    pieces = [structure[at : at + unit] for at in range(offset, offset + unit * length, unit)]
    if unit == 1 and length > 1:
        return b"".join(pieces)
    numbers = [int.from_bytes(piece, order, signed=code.islower()) for piece in pieces]
    values = [bool(number) for number in numbers] if code == "?" else numbers
    return values[0] if length == 1 else tuple(values)


def selected(data: bytes) -> object:
    """A p2m's entries, from an odd address, into a list with some space."""
    given = Arguments(data)
    space, at = given.count(40), given.number()
    rest = given.rest()
    entries = memoryview(b"." + rest)[1 : 1 + len(rest) // 8 * 8]
    _swap_twice(entries)
    frames = array("Q", bytes(8 * space))
    found = select_frames(entries, frames, at)
    words = array("Q", bytes(entries))
    plain = [word for word in words if word < 1 << 62]
    assert inside(at, len(plain), space)
    assert found[0] == len(plain) and sum(found) == len(words)
    assert frames.tolist() == [0] * at + plain + [0] * (space - at - len(plain))
    return found, frames


def _swap_twice(entries: memoryview) -> None:
    swapped = bytearray(entries)
    byteswap64(swapped)
    byteswap64(swapped)
    assert swapped == entries


# Memory.


def arenas(data: bytes) -> object:
    """Arenas are zero, apart from each other, and as large as asked for, whatever is still held of others."""
    given, pool = Arguments(data), Pool(locked=False)
    live: list[Arena] = []
    views: list[memoryview] = []
    for _ in range(given.count(40)):
        act = given.count(4)
        if act == 0 or not live:
            size = given.size()
            live.append(pool.take(size))
            assert live[-1].size >= size and not any(live[-1].view)
            live[-1].view[:] = b"." * live[-1].size
        elif act == 1:
            live.pop(given.count(len(live) - 1)).release(-1 if given.flag() else 2 * PAGE_SIZE)
        elif act == 2:
            views.append(live[given.count(len(live) - 1)].view[given.number() :])
        elif act == 3:
            live[given.count(len(live) - 1)].view.release()
            live.pop().release()
        else:
            del live[given.count(len(live) - 1)]
        for view in views:
            view[:] = b"!" * len(view)
    spans = sorted((arena.address, arena.address + arena.size) for arena in live)
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:]))
    assert pool.outstanding == len(live) == len(pool.live())
    return spans


def mapped(data: bytes) -> object:
    """Frames of a memory, with errors: what is mapped is what was asked for."""
    given, memory = Arguments(data), SharedMemory(_FRAMES)
    for frame in range(_FRAMES):
        memory.write(frame, 0, bytes([frame + 1]) * PAGE_SIZE)
    frames = array("Q", [number % 2**64 for number in given.numbers(20)])
    errors = given.numbers(20)
    found = memory.map_frames(1, frames, given.flag(), errors)
    assert frames and len(errors) in (0, len(frames))
    codes = [error or (frame >= _FRAMES and 22) for error, frame in zip(errors or [0] * len(frames), frames)]
    assert found.errors == (tuple(codes) if any(codes) else ())
    if not found.errors:
        assert bytes(found) == b"".join(bytes([frame + 1]) * PAGE_SIZE for frame in frames)
    memory.close()
    return found.closed


def remembered(data: bytes) -> object:
    """A memory that is written, discarded and read anywhere, beside plain bytes."""
    given, memory, plain = Arguments(data), SharedMemory(_FRAMES), bytearray(_FRAMES * PAGE_SIZE)
    for _ in range(given.count(20)):
        act, frame, place = given.count(2), given.number(), given.number()
        at = frame * PAGE_SIZE + place
        if act == 0:
            piece = given.piece(200)
            memory.write(frame, place, piece)
            assert inside(at, len(piece), len(plain))
            plain[at : at + len(piece)] = piece
        elif act == 1:
            memory.discard(frame, max(place, 1))
            assert inside(frame, max(place, 1), _FRAMES)
            plain[frame * PAGE_SIZE : (frame + max(place, 1)) * PAGE_SIZE] = bytes(max(place, 1) * PAGE_SIZE)
        else:
            size = given.size()
            assert memory.read(frame, place, size) == plain[at : at + size]
            assert inside(at, size, len(plain))
    assert memory.read(0, 0, len(plain)) == plain
    return len(plain)


SAMPLES = {
    "exchange": (exchanged, of(16, 5, -1, 2, 0, 1, 3, b"abc", 8, 0, 100, b"structure")),
    "prepare": (prepared, of(144, 8, 16, 128, 5, b"structure")),
    "ioctl": (asked_by_ioctl, of(48 << 16, 48, bytes(48), 1)),
    "lay_batch": (laid, of(1, 2, 144, 100, 7, -1, 1, 0, 2, 8, 2, 1, 1, 5, 16, 8, 0, 1, 9, b"structure")),
    "records": (records, of(16, 8, 1, 0, 2, 0, 6, 1, 8, 4, 2, bytes(range(32)))),
    "select_frames": (selected, of(4, 1, struct.pack("=4Q", 5, 2**64 - 1, 1 << 63, 1 << 62))),
    "arenas": (arenas, of(6, 0, 100, 2, 0, 8, 1, 0, 1, 0, 100, 3, 0, 0, 100)),
    "maps": (mapped, of(3, 5, 1, 2, 3, 0, 0, 0, 1)),
    "memory": (remembered, of(3, 0, 1, 7, 3, b"abc", 2, 1, 7, 3, 1, 1, 2)),
}
"""A function by the name of what it calls, and bytes that it makes something valid of."""
