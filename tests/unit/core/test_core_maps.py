# SPDX-License-Identifier: MIT
"""Foreign mappings, on the memory of a simulated machine: they share frames, and end well."""

from __future__ import annotations

import errno
import gc
import os
from array import array
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from pyxc._core import PAGE_SIZE, ForeignMap, SharedMemory, byteswap64


@pytest.fixture
def memory() -> SharedMemory:
    return SharedMemory(1 << 20)


def frames(*numbers: int) -> array[int]:
    return array("Q", numbers)


def test_frames_lie_in_the_order_asked_for(memory: SharedMemory) -> None:
    order = [7, 3, 4, 5, 3, 1_048_575, 0]
    for frame in set(order):
        memory.write(frame, 0, b"frame %8d" % frame)
    with memory.map_frames(1, frames(*order), False) as mapped, memoryview(mapped) as view:
        found = [bytes(view[i * PAGE_SIZE : i * PAGE_SIZE + 14]) for i in range(len(order))]
        assert found == [b"frame %8d" % frame for frame in order]
        assert len(mapped) == mapped.size == view.nbytes == len(order) * PAGE_SIZE
        assert mapped.domid == 1


def test_two_maps_of_one_frame_are_the_same_memory(memory: SharedMemory) -> None:
    writer, reader = memory.map_frames(1, frames(9, 8), True), memory.map_frames(2, frames(8), False)
    memoryview(writer)[PAGE_SIZE : PAGE_SIZE + 3] = b"new"
    assert bytes(memoryview(reader)[:3]) == b"new"
    assert memory.read(8, 0, 3) == b"new"
    memory.write(8, 1, b"E")
    assert bytes(memoryview(writer)[PAGE_SIZE : PAGE_SIZE + 3]) == b"nEw"


def test_a_map_is_read_only_unless_asked(memory: SharedMemory) -> None:
    mapped = memory.map_frames(1, frames(1), False)
    assert not mapped.writable
    assert memoryview(mapped).readonly
    with pytest.raises(TypeError):
        memoryview(mapped)[0] = 1
    with pytest.raises(BufferError, match="read-only"):
        byteswap64(mapped)


def test_the_pages_of_a_read_only_map_are_read_only(memory: SharedMemory) -> None:
    mapped = memory.map_frames(1, frames(1, 2, 3), False)
    lines = Path("/proc/self/maps").read_text().splitlines()
    assert [line.split()[1] for line in lines if "pyxc-sim" in line] == ["r--s"]
    mapped.close()


def test_a_memoryview_keeps_a_map_open(memory: SharedMemory) -> None:
    mapped = memory.map_frames(7, frames(1), False)
    whole = memoryview(mapped)
    part = whole[:16]
    assert mapped.exports == 1
    with pytest.raises(BufferError, match=r"domain 7.*1 memoryview"):
        mapped.close()
    whole.release()
    assert bytes(part) == bytes(16)
    part.release()
    assert mapped.exports == 0
    mapped.close()
    mapped.close()
    assert mapped.closed


def test_a_closed_map_is_an_error_not_a_crash(memory: SharedMemory) -> None:
    mapped = memory.map_frames(7, frames(1), False)
    mapped.close()
    with pytest.raises(ValueError, match=r"domain 7.*closed"):
        memoryview(mapped)
    with pytest.raises(ValueError, match="closed"):
        bytes(mapped)
    assert "closed" in repr(mapped)


def test_a_view_outlives_the_names_of_its_map_and_memory() -> None:
    memory = SharedMemory(4)
    memory.write(2, 0, b"still here")
    view = memoryview(memory.map_frames(1, frames(2), False))
    del memory
    gc.collect()
    assert bytes(view[:10]) == b"still here"


def test_frames_that_cannot_be_mapped_are_reported_one_by_one(memory: SharedMemory) -> None:
    mapped = memory.map_frames(1, frames(5, 1 << 20, 6, 2**64 - 1), False, [0, 0, errno.ENOENT, 0])
    assert mapped.errors == (0, errno.EINVAL, errno.ENOENT, errno.EINVAL)
    with pytest.raises(OSError, match="frame 1 ") as caught:
        memoryview(mapped)
    assert caught.value.errno == errno.EINVAL
    assert memory.map_frames(1, frames(5), False, [0]).errors == ()


@pytest.mark.parametrize("wrong", [b"", b"1234567", bytes(12)])
def test_a_frame_list_is_whole_u64s_and_not_empty(memory: SharedMemory, wrong: bytes) -> None:
    with pytest.raises(ValueError):
        memory.map_frames(1, wrong, False)
    with pytest.raises(ValueError):
        memory.map_frames(1, frames(1, 2), False, [0])
    assert memory.maps == []


def test_a_map_cannot_be_found_before_it_is_complete(memory: SharedMemory) -> None:
    memory.write(5, 0, b"five")
    found: list[ForeignMap] = []

    def errors() -> Iterator[int]:
        for _ in range(3):
            found.extend(memory.maps)
            for mapped in memory.maps:
                mapped.close()
            yield 0

    mapped = memory.map_frames(1, frames(5, 9, 8), False, errors())
    assert found == []
    assert memory.maps == [mapped]
    assert bytes(memoryview(mapped)[:4]) == b"five"


def test_a_memory_that_is_closed_while_it_is_mapped_leaves_nothing_behind(memory: SharedMemory) -> None:
    def maps_of_memories() -> int:
        return Path("/proc/self/maps").read_text().count("pyxc-sim")

    def errors() -> Iterator[int]:
        memory.close()
        yield 0

    before = maps_of_memories()
    with pytest.raises(ValueError, match="closed"):
        memory.map_frames(1, frames(5), False, errors())
    assert maps_of_memories() == before


def test_a_list_that_changes_is_mapped_as_it_was(memory: SharedMemory) -> None:
    memory.write(5, 0, b"five")
    wanted = frames(5)

    def errors() -> Iterator[int]:
        wanted[0] = 2**64 - 1
        yield 0

    assert bytes(memoryview(memory.map_frames(1, wanted, False, errors()))[:4]) == b"five"


@pytest.mark.parametrize("errors", [repeat(0), [0], [0, 0, 0], [-5, 0], [2**31, 0]])
def test_each_frame_has_one_errno(memory: SharedMemory, errors: Any) -> None:
    with pytest.raises((ValueError, OverflowError)):
        memory.map_frames(1, frames(1, 2), False, errors)
    assert memory.maps == []


def test_closing_the_memory_closes_its_maps_or_says_which_is_held(memory: SharedMemory) -> None:
    first, second = memory.map_frames(1, frames(1), False), memory.map_frames(2, frames(2), False)
    assert memory.maps == [first, second]
    view = memoryview(second)
    with pytest.raises(BufferError, match="domain 2"):
        memory.close()
    assert not first.closed and memory.read(0, 0, 1) == b"\0"
    view.release()
    memory.close()
    assert first.closed and second.closed and memory.maps == []
    uses: list[Callable[[], object]] = [
        lambda: memory.read(0, 0, 1),
        lambda: memory.map_frames(1, frames(1)),
        lambda: memory.fd,
    ]
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()


def test_bytes_beyond_the_end_are_refused() -> None:
    memory = SharedMemory(2)
    memory.write(1, PAGE_SIZE - 2, b"ab")
    assert memory.read(0, 2 * PAGE_SIZE - 2, 2) == b"ab"
    for frame, offset, size in [(1, PAGE_SIZE - 1, 2), (2, 0, 1), (0, 3 * PAGE_SIZE, 0), (1 << 63, 0, 1)]:
        with pytest.raises(ValueError):
            memory.read(frame, offset, size)
        with pytest.raises(ValueError):
            memory.write(frame, offset, bytes(size or 1))
    with pytest.raises(ValueError):
        memory.discard(1, 2)
    with pytest.raises(ValueError):
        SharedMemory(0)


def test_discarded_frames_read_as_zero_and_take_no_room(memory: SharedMemory) -> None:
    memory.write(10, 0, b"x" * (3 * PAGE_SIZE))
    view = memoryview(memory.map_frames(1, frames(10, 11, 12), False))
    memory.discard(10, 2)
    assert os.fstat(memory.fd).st_blocks * 512 == PAGE_SIZE
    assert bytes(view[: 2 * PAGE_SIZE]) == bytes(2 * PAGE_SIZE)
    assert bytes(view[2 * PAGE_SIZE :]) == b"x" * PAGE_SIZE


@pytest.mark.usefixtures("no_collection")
def test_nothing_leaks() -> None:
    def resources() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(Path("/proc/self/maps").read_text().splitlines())

    def use(close: bool) -> None:
        memory = SharedMemory(100)
        mapped = memory.map_frames(1, frames(3, 2, 1, 200), True)
        memoryview(memory.map_frames(1, frames(3, 2, 1), True))[0] = 1
        if close:
            mapped.close()
            memory.close()

    use(True)
    before = resources()
    for close in [True, False] * 50:
        use(close)
    assert resources()[0] == before[0]
    assert resources()[1] <= before[1] + 5


def test_maps_come_from_handles_only() -> None:
    with pytest.raises(TypeError):
        ForeignMap()
