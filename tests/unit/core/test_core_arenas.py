# SPDX-License-Identifier: MIT
"""Hypercall-safe memory: what is taken is clean, counted, and gone when it should be."""

import ctypes
import errno
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from emulation import needs_the_kernel

from pyxc._core import PAGE_SIZE, Arena, Pool


@pytest.fixture
def pool() -> Pool:
    return Pool(locked=False)


def mapped(address: int) -> bool:
    lines = Path("/proc/self/maps").read_text().splitlines()
    ranges = [line.split()[0].split("-") for line in lines]
    return any(int(start, 16) <= address < int(end, 16) for start, end in ranges)


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 70_000, 1_000_000])
def test_an_arena_is_aligned_large_enough_and_zero(pool: Pool, size: int) -> None:
    arena = pool.take(size)
    assert arena.address % PAGE_SIZE == 0
    assert arena.size >= max(size, 1) and arena.size % PAGE_SIZE == 0
    assert bytes(arena.view) == bytes(arena.size)


def test_the_view_and_the_arena_are_the_same_writable_bytes(pool: Pool) -> None:
    arena = pool.take(16)
    struct.pack_into("<Q", arena, 8, 0x1122334455667788)
    assert bytes(arena.view[8:16]) == bytes.fromhex("8877665544332211")
    assert (arena.view.format, arena.view.readonly, arena.view.nbytes) == ("B", False, arena.size)
    assert arena.view is arena.view


@pytest.mark.parametrize("used", [5, None, -1, 10**6])
def test_memory_that_comes_back_is_zero_when_taken_again(pool: Pool, used: int | None) -> None:
    arena = pool.take(100)
    address = arena.address
    arena.view[:5] = b"dirty"
    arena.release() if used is None else arena.release(used)
    again = pool.take(100)
    assert again.address == address
    assert bytes(again.view) == bytes(again.size)


def test_large_arenas_are_not_kept(pool: Pool) -> None:
    arena = pool.take(64 << 20)
    address = arena.address
    assert mapped(address)
    arena.release(0)
    assert not mapped(address)


def test_the_pool_keeps_only_a_few_of_each_size(pool: Pool) -> None:
    arenas = [pool.take(1) for _ in range(50)]
    addresses = [arena.address for arena in arenas]
    for arena in arenas:
        arena.release()
    assert 1 <= sum(map(mapped, addresses)) <= 16


def test_what_is_out_is_counted_and_listed(pool: Pool) -> None:
    first, second = pool.take(1), pool.take(20_000)
    assert pool.outstanding == 2
    assert sorted(pool.live()) == sorted((arena.address, arena.size) for arena in (first, second))
    assert pool.arena_at(second.address + second.size - 1) is second
    assert pool.arena_at(second.address - 1) is not second
    assert pool.arena_at(0) is None
    first.release()
    assert pool.live() == [(second.address, second.size)]
    assert pool.arena_at(second.address) is second
    del second
    assert (pool.outstanding, pool.live()) == (0, [])


def test_an_arena_lost_in_an_exception_is_not_leaked(pool: Pool) -> None:
    def fail() -> None:
        pool.take(1)
        raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert pool.outstanding == 0


def test_a_memoryview_keeps_the_memory_of_a_lost_arena(pool: Pool) -> None:
    view = pool.take(1).view
    view[:4] = b"kept"
    assert pool.outstanding == 0
    assert bytes(view[:4]) == b"kept"


def test_the_page_behind_an_arena_cannot_be_reached(pool: Pool, tmp_path: Path) -> None:
    """As for the kernel here, so for a hypervisor: what is written too far is EFAULT."""
    device = os.open(tmp_path / "device", os.O_RDWR | os.O_CREAT)
    os.ftruncate(device, 4 * PAGE_SIZE)
    arenas = [source.take(PAGE_SIZE) for source in (pool, Pool(device)) for _ in range(4)]
    reader, writer = os.pipe()
    for arena in arenas:
        last = (ctypes.c_char * 1).from_address(arena.address + arena.size - 1)
        assert os.write(writer, last) == 1
        behind = (ctypes.c_char * 1).from_address(arena.address + arena.size)
        with pytest.raises(OSError) as caught:
            os.write(writer, behind)
        assert caught.value.errno == errno.EFAULT
    for descriptor in (device, reader, writer):
        os.close(descriptor)


def test_the_view_of_an_arena_ends_with_it(pool: Pool) -> None:
    arena = pool.take(1)
    view = arena.view
    arena.release()
    with pytest.raises(ValueError, match="released"):
        view[0]


@pytest.mark.parametrize("looked", [False, True])
def test_a_view_that_was_released_does_no_harm_to_the_pool(pool: Pool, looked: bool) -> None:
    for _ in range(20):
        arena = pool.take(1)
        with arena.view as view:
            view[:4] = b"used"
        if looked:
            with pytest.raises(ValueError):
                arena.view[0]
        arena.release()
    assert bytes(pool.take(1).view) == bytes(PAGE_SIZE)


@pytest.mark.parametrize("kept", [lambda a: a.view[8:], memoryview, lambda a: memoryview(a.view)])
def test_memory_that_a_view_still_reaches_goes_to_no_other_call(
    pool: Pool, kept: Callable[[Arena], memoryview]
) -> None:
    arena = pool.take(1)
    address = arena.address
    view = kept(arena)
    arena.view[:16] = b"belongs to call1"
    arena.release()
    successors = [pool.take(1) for _ in range(4)]
    assert address not in [successor.address for successor in successors]
    assert not any(view), "what a call left is zeroed all the same"
    view[:4] = b"late"
    assert not any(any(successor.view) for successor in successors)
    view.release()
    assert not mapped(address)


@pytest.mark.parametrize(
    "use",
    [lambda a: a.address, lambda a: a.size, lambda a: a.view, lambda a: a.release(), lambda a: memoryview(a)],
    ids=["address", "size", "view", "release", "memoryview"],
)
def test_a_released_arena_cannot_be_used(pool: Pool, use: Callable[[Arena], object]) -> None:
    arena = pool.take(1)
    arena.release()
    successor = pool.take(1)
    with pytest.raises(ValueError, match="released"):
        use(arena)
    assert pool.outstanding == 1
    assert "released" in repr(arena) and hex(successor.address) in repr(successor)


def test_a_closed_pool_gives_nothing_and_frees_what_comes_back(pool: Pool) -> None:
    early, late = pool.take(1), pool.take(1)
    addresses = early.address, late.address
    early.release()
    pool.close()
    late.release()
    assert not any(map(mapped, addresses))
    with pytest.raises(ValueError, match="closed"):
        pool.take(1)


def test_arenas_come_from_pools_only(pool: Pool) -> None:
    with pytest.raises(TypeError):
        Arena()
    with pytest.raises(ValueError):
        pool.take(-1)


def test_memory_comes_from_the_device(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "device", os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, PAGE_SIZE)
    arena = Pool(descriptor).take(PAGE_SIZE)
    arena.view[:5] = b"hello"
    assert os.pread(descriptor, 5, 0) == b"hello"
    os.close(descriptor)
    with pytest.raises(MemoryError):
        Pool(descriptor).take(1)


def test_a_refused_lock_names_the_limit() -> None:
    script = """
import os, resource
from pyxc._core import Pool
resource.setrlimit(resource.RLIMIT_MEMLOCK, (8192, 8192))
if os.geteuid() == 0:
    os.setuid(65534)
try:
    Pool().take(1 << 20)
except MemoryError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "RLIMIT_MEMLOCK is 8192 bytes" in done.stdout


@needs_the_kernel
def test_locked_memory_is_resident_and_not_inherited() -> None:
    arena = Pool().take(1)
    text = Path("/proc/self/smaps").read_text()
    entry = text[text.index(f"{arena.address:x}-") :]
    flags = entry[entry.index("VmFlags:") :].splitlines()[0].split()
    assert {"lo", "dc"} <= set(flags)


def test_many_threads_share_one_pool(pool: Pool) -> None:
    wrong: list[int] = []

    def work(mark: int) -> None:
        for size in range(1, 2000):
            arena = pool.take(size)
            if any(arena.view[:size]):
                wrong.append(mark)
            arena.view[:size] = bytes([mark]) * size
            if bytes(arena.view[:size]) != bytes([mark]) * size:
                wrong.append(mark)
            arena.release(size)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert pool.outstanding == 0
