# SPDX-License-Identifier: MIT
"""dom0_op and its neighbours: the host of 2006, its console, clock, scheduler and version."""

from __future__ import annotations

import errno
import struct

import pytest
from dom0_op_bytes import OldXen, u16, u32, u64

from pyxc.store import StoreClient

SCHEDCTL, ADJUSTDOM, SETTIME, READCONSOLE, PHYSINFO, SCHED_ID = 6, 7, 17, 19, 22, 24
BVT, SEDF = 0, 4
PUT, GET = 0, 1
WEB1, ABSENT = 1, 0x7000
XEN_VERSION, MEMORY_OP, MULTICALL = 17, 12, 13


def test_the_host(old: OldXen) -> None:
    answer = old.ask(PHYSINFO)
    assert [answer.number(at, 4) for at in (0, 4, 8, 12, 16)] == [1, 1, 2, 1, 2_400_000]
    assert answer.number(24, 8) == 0x7FFE0 - 5000
    assert answer.number(32, 8) == old.xen.machine.heap.free
    assert (answer.body[40:72] == bytes(32)) is old.powerpc


def test_the_console(old: OldXen) -> None:
    arena = old.buffer(16_384)

    def read(count: int, clear: int = 0) -> bytes:
        answer = old.ask(READCONSOLE, u32(0, clear), u64(8, arena.address), u32(16, count))
        assert answer.result == 0
        return bytes(arena.view[: answer.number(16, 4)])

    assert read(40) == read(40) == b"(XEN) Xen version 3.0-unstable (pyxc@sim"
    assert read(10, clear=1) == b"(XEN) Xen "
    assert read(16_384) == b""
    old.xen.console.print("(XEN) more\n")
    assert read(16_384) == b"(XEN) more\n"
    assert old.ask(READCONSOLE, u64(8, 16), u32(16, 5)).result == -errno.EFAULT


def test_the_clock_is_set(old: OldXen) -> None:
    assert old.ask(SETTIME, u32(0, 1_147_690_974), u32(4, 500), u64(8, 400)).result == 0
    assert old.xen.wallclock_ns == 1_147_690_974_000_000_100


def sedf(old: OldXen, domid: int) -> list[int]:
    """period, slice, latency, extratime, weight."""
    answer = old.ask(ADJUSTDOM, u32(0, SEDF), u32(4, GET), u16(8, domid))
    assert answer.result == 0
    return [*(answer.number(at, 8) for at in (16, 24, 32)), *(answer.number(at, 4) for at in (40, 44))]


def set_sedf(old: OldXen, period: int, slice_: int, latency: int, extra: int, weight: int) -> list[int]:
    """What becomes of web1's parameters."""
    head = (u32(0, SEDF), u32(4, PUT), u16(8, WEB1))
    wanted = (u64(16, period), u64(24, slice_), u64(32, latency), u32(40, extra), u32(44, weight))
    assert old.ask(ADJUSTDOM, *head, *wanted).result == 0
    return sedf(old, WEB1)


def test_the_scheduler_is_sedf(old: OldXen) -> None:
    assert old.ask(SCHED_ID).number(0, 4) == SEDF
    assert sedf(old, 0) == [20_000_000, 15_000_000, 0, 1, 0]
    assert sedf(old, WEB1) == [100_000_000, 0, 0, 1, 0]


def test_sedf_takes_slices_or_weights(old: OldXen) -> None:
    by_slices = [50_000_000, 10_000_000, 7, 0, 0]
    assert set_sedf(old, *by_slices) == by_slices
    assert set_sedf(old, 50_000_000, 10_000_000, 9, 0, 3) == [50_000_000, 10_000_000, 9, 0, 3]
    assert set_sedf(old, 0, 0, 0, 3, 5) == [100_000_000, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("period", "slice_"),
    [(0, 0), (9_999, 9_000), (10**10 + 1, 10**6), (10**6, 10**6 + 1), (10**6, 4_999)],
)
def test_sedf_passes_over_nonsense(old: OldXen, period: int, slice_: int) -> None:
    assert set_sedf(old, period, slice_, 5, 0, 0) == [100_000_000, 0, 0, 1, 0]


def test_other_schedulers_and_directions_are_refused(old: OldXen) -> None:
    assert old.ask(ADJUSTDOM, u32(0, BVT), u32(4, GET), u16(8, ABSENT)).result == -errno.EINVAL
    assert old.ask(ADJUSTDOM, u32(0, SEDF), u32(4, 2), u16(8, ABSENT)).result == -errno.EINVAL
    assert old.ask(ADJUSTDOM, u32(0, SEDF), u32(4, GET), u16(8, ABSENT)).result == -errno.ESRCH
    assert old.ask(SCHEDCTL, u32(0, BVT), u32(4, GET)).result == -errno.EINVAL
    assert old.ask(SCHEDCTL, u32(0, SEDF), u32(4, PUT), u32(8, 1)).result == 0


def said(old: OldXen, command: int, size: int) -> bytes:
    arena = old.buffer(size)
    assert old.link.hypercall(XEN_VERSION, command, arena.address) == 0
    return bytes(arena.view[:size]).rstrip(b"\0")


def test_what_it_says_of_itself(old: OldXen) -> None:
    assert old.link.hypercall(XEN_VERSION, 0) == 3 << 16
    assert said(old, 1, 16) == b"-unstable"
    assert said(old, 3, 1024) == (b"xen-3.0-powerpc64" if old.powerpc else b"xen-3.0-x86_64")
    assert said(old, 4, 64).startswith(b"Mon May 15 07:51:07 2006")
    assert said(old, 2, 144).startswith(b"ppc64-linux-gnu-gcc" if old.powerpc else b"x86_64-linux-gnu-gcc")
    features = old.buffer(8)
    assert old.link.hypercall(XEN_VERSION, 6, features.address) == 0
    assert bytes(features.view[:8]) == bytes(8)


@pytest.mark.parametrize("command", [7, 8, 9, 10])
def test_it_says_nothing_that_was_asked_later(old: OldXen, command: int) -> None:
    assert old.link.hypercall(XEN_VERSION, command, old.buffer(4096).address) == -errno.ENOSYS


def test_an_entry_of_a_multicall_is_in_its_byte_order(old: OldXen) -> None:
    entry = struct.Struct((">" if old.powerpc else "<") + "Qq6Q")
    domid = old.buffer(WEB1.to_bytes(2, old.byteorder))
    arena = old.buffer(entry.pack(MEMORY_OP, 0, 3, domid.address, 0, 0, 0, 0))
    assert old.link.hypercall(MULTICALL, arena.address, 1) == 0
    assert entry.unpack_from(arena.view)[:2] == (MEMORY_OP, 16_384)


def test_memory_comes_and_goes(old: OldXen) -> None:
    domid = old.create()
    assert old.ask(28, u16(0, domid), u64(8, 64)).result == 0
    extents = old.buffer(b"".join(pfn.to_bytes(8, old.byteorder) for pfn in range(4)))

    def reserve(command: int, who: int) -> int:
        numbers = ((8, extents.address), (8, 4), (4, 0), (4, 0), (2, who))
        reservation = b"".join(value.to_bytes(size, old.byteorder) for size, value in numbers)
        return int(old.link.hypercall(MEMORY_OP, command, old.buffer(reservation.ljust(32, b"\0")).address))

    assert reserve(6, domid) == 4
    assert old.words(extents.view[:32]) == old.owned(domid)
    assert reserve(1, domid) == 4
    assert reserve(6, ABSENT) == -errno.ESRCH


def test_the_store_knows_the_guests(old: OldXen) -> None:
    with StoreClient(old.link.connect_store) as store:
        names = [store.read(f"/local/domain/{domid}/name") for domid in range(1, 4)]
    assert names == [b"web1", b"db1", b"build"]
