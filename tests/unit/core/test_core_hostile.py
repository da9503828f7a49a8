# SPDX-License-Identifier: MIT
"""Numbers and objects that are out of range, or that lie: refused before any memory is touched."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from pyxc import _core
from pyxc._core import (
    Arena,
    ForeignMap,
    Pool,
    PreparedCall,
    Privcmd,
    RecordReader,
    SharedMemory,
    byteswap64,
    device_ioctl,
    lay_batch,
    select_frames,
)


class Pair(NamedTuple):
    first: int | None
    second: int | None


DEVICE = Privcmd("/dev/null", gate="never")
MEMORY = SharedMemory(4)
POOL = Pool(locked=False)
READER = RecordReader(Pair, 8, ((0, "I", 1), (4, "I", 1)))
BLANK = (None, None)


def lay(count: int = 1, stride: int = 8, offset: int = 0, size: int = 8, values: Any = (1,)) -> None:
    """One structure of 8 bytes with one column, but for what is given."""
    arena = POOL.take(4096)
    try:
        lay_batch(arena, count, bytes(8), stride, (1, -1, -1), ((offset, size, values),))
    finally:
        arena.release()


NUMBERS = [
    -1, -2, -8, -64, -4096, -(2**20), -(2**31), -(2**40), -(2**61), -sys.maxsize - 1, -(2**63),
    sys.maxsize, sys.maxsize - 7, sys.maxsize - 63, 2**60, 2**61, 2**62, 2**63 - 64, 2**63 - 1, 2**63,
    2**64 - 1, 2**64,
]  # fmt: skip
USES: dict[str, Callable[[int], object]] = {
    "the size of a buffer": lambda n: DEVICE.exchange(0, bytes(64), ((0, n),)),
    "the size of a buffer before others": lambda n: DEVICE.exchange(
        0, bytes(64), ((0, n), (8, b"A" * 100), (16, 1 << 21))
    ),
    "the size of a buffer behind another": lambda n: DEVICE.exchange(0, bytes(64), ((0, 4096), (8, n))),
    "the place of a handle": lambda n: DEVICE.exchange(0, bytes(64), ((n, 8),)),
    "where a body begins": lambda n: DEVICE.prepare(1, bytes(64), 0, READER, n),
    "where a domid goes": lambda n: DEVICE.prepare(1, bytes(64), -2 if n == -1 else n, READER, 0),
    "a domid": lambda n: DEVICE.prepare(1, bytes(64), 0, READER, 0).ask(n),
    "the size of a structure": lambda n: RecordReader(Pair, n, BLANK).one(bytes(64)),
    "the size of structures": lambda n: RecordReader(Pair, n, BLANK).all(bytes(64)),
    "the place of a field": lambda n: RecordReader(Pair, 8, ((n, "Q", 1), None)),
    "the length of an array": lambda n: RecordReader(Pair, 64, ((0, "Q", n), None)),
    "the place of a record": lambda n: READER.one(bytes(64), n),
    "how many structures": lambda n: lay(count=n),
    "the distance of structures": lambda n: lay(stride=n),
    "the place of a column": lambda n: lay(offset=n),
    "the size of a column": lambda n: lay(size=n),
    "a place in a list": lambda n: select_frames(bytes(64), bytearray(64), n),
    "the size of an arena": POOL.take,
    "the size of a memory": lambda n: SharedMemory(n if n < 0 else max(n, 2**51)),
    "a frame": lambda n: MEMORY.read(n, 0, 1),
    "the place of bytes": lambda n: MEMORY.read(0, n, 1),
    "how many bytes": lambda n: MEMORY.read(0, 0, n),
    "where to write": lambda n: MEMORY.write(3, n, b"x"),
    "how many to discard": lambda n: MEMORY.discard(1, n),
    "how many frames of a resource": lambda n: DEVICE.map_resource(1, 0, 0, 0, n),
    "how many frames of a device": lambda n: DEVICE.map_device(-1, 1, 0, n),
    "an errno": lambda n: MEMORY.map_frames(1, bytes(8), False, [n]),
}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("use", USES)
def test_a_number_out_of_range_is_refused(use: str, number: int) -> None:
    with pytest.raises((ValueError, OverflowError, MemoryError)):
        USES[use](number)


def test_a_size_or_count_of_zero_is_refused_where_it_means_nothing() -> None:
    uses: list[Callable[[], object]] = [
        lambda: RecordReader(Pair, 0, BLANK),
        lambda: RecordReader(Pair, 8, ((0, "I", 0), None)),
        lambda: lay(count=0),
        lambda: lay(size=0),
        lambda: MEMORY.map_frames(1, b""),
        lambda: DEVICE.map_resource(1, 0, 0, 0, 0),
    ]
    for use in uses:
        with pytest.raises(ValueError):
            use()


NOTHING: Any = None
TYPE_ERRORS: dict[str, Callable[[], object]] = {
    "no arena": lambda: lay_batch(NOTHING, 1, b"", 0, (1, -1, -1), ()),
    "no structure": lambda: lay_batch(POOL.take(1), 1, NOTHING, 0, (1, -1, -1), ()),
    "no call": lambda: lay_batch(POOL.take(1), 1, b"", 0, NOTHING, ()),
    "no columns": lambda: lay_batch(POOL.take(1), 1, b"", 0, (1, -1, -1), NOTHING),
    "no column": lambda: lay(values=NOTHING),
    "no request": lambda: DEVICE.exchange(0, NOTHING),
    "no buffers": lambda: DEVICE.exchange(0, bytes(64), NOTHING),
    "no buffer": lambda: DEVICE.exchange(0, bytes(64), (NOTHING,)),
    "no contents": lambda: DEVICE.exchange(0, bytes(64), ((0, NOTHING),)),
    "a buffer that can change": lambda: DEVICE.exchange(0, bytes(64), ([0, 8],)),  # type: ignore[arg-type]
    "no reader": lambda: DEVICE.prepare(1, bytes(64), -1, NOTHING, 0),
    "nothing to prepare": lambda: DEVICE.prepare(1, NOTHING, -1, READER, 0),
    "no domid": lambda: DEVICE.prepare(1, bytes(64), 0, READER, 0).ask(None),
    "no device": lambda: PreparedCall(NOTHING, 1, bytes(64), -1, READER, 0),
    "no class": lambda: RecordReader(NOTHING, 8, BLANK),
    "no fields": lambda: RecordReader(Pair, 8, NOTHING),
    "no code": lambda: RecordReader(Pair, 8, ((0, NOTHING, 1), None)) and READER.one(NOTHING),
    "no bytes": lambda: READER.all(NOTHING),
    "no words": lambda: byteswap64(NOTHING),
    "no frames": lambda: MEMORY.map_frames(1, NOTHING),
    "no list of errors": lambda: MEMORY.map_frames(1, bytes(8), False, NOTHING),
    "no data": lambda: MEMORY.write(0, 0, NOTHING),
    "no gate": lambda: Privcmd("/dev/null", gate=NOTHING),
    "no name": lambda: DEVICE.ioctl(NOTHING, bytearray(8)),
    "no argument": lambda: device_ioctl(-1, 0, NOTHING),
}


@pytest.mark.parametrize("use", TYPE_ERRORS)
def test_nothing_is_no_object(use: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        TYPE_ERRORS[use]()


@pytest.mark.parametrize("kind", [Arena, ForeignMap, PreparedCall])
def test_an_object_that_was_never_made_cannot_be_used(kind: type[Any]) -> None:
    try:
        half = kind.__new__(kind)
    except TypeError:
        return
    for use in (memoryview, kind.__call__, lambda thing: thing.view, lambda thing: thing.release()):
        with pytest.raises((TypeError, ValueError, AttributeError)):
            use(half)
    assert kind.__name__ in repr(half)


class Liar(list[int]):
    """A list with a length that is not its own."""

    length = 1

    def __len__(self) -> int:
        return self.length


@pytest.mark.parametrize("values", [Liar([1] * 100_000), Liar(), iter([1] * 100_000), iter(())])
def test_the_values_of_a_column_are_counted(values: Any) -> None:
    with pytest.raises(ValueError, match="column"):
        lay(values=values)


class Column(Liar):
    """A list that does something when it is read."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__([2**64 - 1])
        self._act = act

    def __iter__(self) -> Iterator[int]:
        self._act()
        return super().__iter__()


def test_a_column_that_unmaps_the_arena_writes_to_no_other() -> None:
    pool, other = Pool(locked=False), Pool(locked=False)
    arena = pool.take(4096)
    taken: list[Arena] = []

    def act() -> None:
        pool.close()
        arena.release()
        taken.extend(other.take(4096) for _ in range(8))

    lay_batch(arena, 1, bytes(8), 8, (1, -1, -1), ((0, 8, Column(act)),))
    assert not any(any(successor.view) for successor in taken)


def test_a_column_that_releases_the_arena_writes_to_no_other() -> None:
    pool = Pool(locked=False)
    arena = pool.take(4096)
    taken: list[Arena] = []

    def act() -> None:
        arena.release()
        taken.append(pool.take(4096))

    lay_batch(arena, 1, bytes(8), 8, (1, -1, -1), ((0, 8, Column(act)),))
    assert not any(taken[0].view)


def test_a_size_that_changes_is_asked_for_once() -> None:
    class Growing:
        size = 4

        def __index__(self) -> int:
            self.size <<= 10
            return self.size >> 10

    (buffer, other) = DEVICE.exchange(0, bytes(64), ((0, Growing()), (8, b"other")))[2]  # type: ignore[arg-type]
    assert (buffer, other) == (bytes(4), b"other")


def test_a_hypercall_has_a_limited_number_of_buffers() -> None:
    assert len(DEVICE.exchange(0, bytes(64), ((0, 8),) * 32)[2]) == 32
    with pytest.raises(ValueError, match="limit"):
        DEVICE.exchange(0, bytes(64), ((0, 8),) * 33)


def test_only_named_tuples_of_as_many_fields_become_records() -> None:
    classes: list[type[Any]] = [type(sys.flags), tuple, list, type("Open", (tuple,), {})]
    for kind in classes:
        with pytest.raises(TypeError, match="NamedTuple"):
            RecordReader(kind, 8, BLANK)
    for fields in ((), (None,), (None, None, None)):
        with pytest.raises(ValueError, match="fields"):
            RecordReader(Pair, 8, fields)
    for code in ("P", "QQ", "", "\0"):
        with pytest.raises(ValueError, match="code"):
            RecordReader(Pair, 8, ((0, code, 1), None))


def test_what_an_ioctl_writes_does_not_end_up_behind_its_structure() -> None:
    """Of FIONREAD, which writes an int, the number tells that on few machines; of Xen's ioctls on all."""
    reader, writer = os.pipe()
    os.write(writer, bytes(777))
    words = bytearray(8)
    with suppress(ValueError):
        assert device_ioctl(reader, termios.FIONREAD, memoryview(words)[:1]) == 0
    os.close(reader)
    os.close(writer)
    assert not any(words[1:])
    for name, size in (("evtchn_bind_virq", 4), ("privcmd_hypercall", 48), ("gntdev_map_grant_ref", 24)):
        for use in (device_ioctl, lambda _, request, argument, name=name: DEVICE.ioctl(name, argument)):
            with pytest.raises(ValueError, match=f"{size} bytes, not {size - 1}"):
                use(DEVICE.fd, _core.IOCTL[name], bytearray(size - 1))
