# SPDX-License-Identifier: MIT
"""dom0_op: frames of domains of 2006, DOM0_GETMEMLIST2 among them."""

from __future__ import annotations

import errno
import sys
import time
import tracemalloc
from array import array
from typing import Any

import pytest
from dom0_op_bytes import OldXen, u16, u32, u64
from emulation import needs_the_kernel

from pyxc import sim
from pyxc.sim import Hypervisor
from pyxc.sim.model import lifecycle

GETMEMLIST, PAGEFRAMEINFO, SHADOW, PAGEFRAMEINFO2, GETMEMLIST2, HYPERCALL_INIT = 2, 18, 25, 29, 42, 48
WEB1, BUILD, LARGE1, ABSENT = 1, 3, 4, 0x7000
L1, L4_PINNED, NONE = 1 << 28, 0xC << 28, 0xF << 28
OFF, LOGDIRTY, TRANSLATE, FLUSH, CLEAN, PEEK = 0, 2, 3, 10, 11, 12


def getmemlist(old: OldXen, domid: int, count: int, buffer: int) -> tuple[int, int]:
    """Result and number of entries."""
    answer = old.ask(GETMEMLIST, u16(0, domid), u64(8, count), u64(16, buffer), u64(24, 77))
    return answer.result, answer.number(24, 8)


def getmemlist2(old: OldXen, domid: int, count: int, first: int, buffer: int) -> tuple[int, int]:
    fields = (u16(0, domid), u64(8, count), u64(16, first), u64(24, buffer), u64(32, 77))
    answer = old.ask(GETMEMLIST2, *fields)
    return answer.result, answer.number(32, 8)


def test_the_list_of_a_domain_is_its_memory(old: OldXen) -> None:
    owned = old.owned(WEB1)
    assert len(owned) == old.xen.domains[WEB1].tot_pages
    arena = old.buffer(8 * 20_000)
    assert getmemlist(old, WEB1, 20_000, arena.address) == (0, 16_384)
    assert old.words(arena.view[: 8 * 16_384]) == owned
    assert getmemlist(old, WEB1, 3, arena.address) == (0, 3)


def test_the_second_list_is_the_first_in_pieces(old: OldXen) -> None:
    owned = old.owned(WEB1)
    arena = old.buffer(8 * 5_000)
    found = []
    while True:
        result, count = getmemlist2(old, WEB1, 5_000, len(found), arena.address)
        assert result == 0
        if count == 0:
            break
        found += old.words(arena.view[: 8 * count])
    assert found == owned


def test_elements_are_u64_in_the_order_of_the_hypervisor(old_of: Any) -> None:
    old = old_of("sim:ppc64")
    arena = old.buffer(16)
    assert getmemlist2(old, WEB1, 1, 1, arena.address) == (0, 1)
    assert bytes(arena.view[:16]) == old.owned(WEB1)[1].to_bytes(8, "big") + bytes(8)


@pytest.mark.parametrize("first", [16_384, 16_385, 2**63, 2**64 - 1])
def test_nothing_comes_at_the_end_and_behind(old: OldXen, first: int) -> None:
    assert getmemlist2(old, WEB1, 10, first, old.buffer(80).address) == (0, 0)


def test_the_last_entries_are_fewer_than_asked_for(old: OldXen) -> None:
    arena = old.buffer(80)
    assert getmemlist2(old, WEB1, 10, 16_381, arena.address) == (0, 3)
    assert old.words(arena.view[:80]) == [*old.owned(WEB1)[-3:], *[0] * 7]


@pytest.mark.parametrize("buffer", [0, 16])
def test_no_entries_can_be_asked_for(old: OldXen, buffer: int) -> None:
    assert getmemlist2(old, WEB1, 0, 5, buffer) == (0, 0)
    assert getmemlist2(old, WEB1, 2**64 - 1, 2**64 - 1, buffer) == (0, 0)


def test_an_unknown_domain_is_invalid_and_nothing_is_told(old: OldXen) -> None:
    arena = old.buffer(80)
    for domid in (ABSENT, 0x7FF0):
        assert getmemlist(old, domid, 10, arena.address) == (-errno.EINVAL, 77)
        assert getmemlist2(old, domid, 0, 0, 0) == (-errno.EINVAL, 77)


def test_a_fault_tells_what_was_written_before_it(old: OldXen) -> None:
    arena = old.buffer(4096)
    place = arena.size - 27
    for ask in (lambda at: getmemlist(old, WEB1, 9, at), lambda at: getmemlist2(old, WEB1, 9, 0, at)):
        arena.view[:] = bytes(arena.size)
        assert ask(arena.address + place) == (-errno.EFAULT, 3)
        assert old.words(arena.view[place : place + 24]) == old.owned(WEB1)[:3]
        assert bytes(arena.view[place + 24 :]) == bytes(3)
        assert ask(0) == (-errno.EFAULT, 0)


def test_a_buffer_named_by_half_an_address_faults(old: OldXen) -> None:
    address = old.buffer(80).address
    for wrong in (address | 1 << 63, (address & 0xFFFFFFFF) << 32 | address >> 32):
        assert getmemlist2(old, WEB1, 5, 0, wrong) == (-errno.EFAULT, 0)


@pytest.mark.parametrize("target", ["sim:ppc64-shipped", "sim:xen-3.0-shipped"])
def test_no_xen_ever_shipped_it(old_of: Any, target: str) -> None:
    old = old_of(target)
    arena = old.buffer(80)
    assert getmemlist2(old, WEB1, 10, 0, arena.address) == (-errno.ENOSYS, 77)
    assert getmemlist2(old, ABSENT, 10, 0, 0) == (-errno.ENOSYS, 77)
    assert getmemlist(old, WEB1, 10, arena.address) == (0, 10)


def test_a_domain_without_memory_has_an_empty_list(old: OldXen) -> None:
    domid = old.create()
    assert getmemlist(old, domid, 10, 0) == getmemlist2(old, domid, 10, 0, 0) == (0, 0)


def test_what_a_guest_gives_back_leaves_its_list(old: OldXen) -> None:
    owned = old.owned(BUILD)
    lifecycle.take_frames(old.xen, old.xen.domains[BUILD], [range(owned[5], owned[5] + 2)])
    arena = old.buffer(8 * 8)
    assert getmemlist2(old, BUILD, 8, 3, arena.address) == (0, 8)
    assert old.words(arena.view[:64]) == [*owned[3:5], *owned[7:13]]


def test_a_guest_of_64_gib_is_ready_at_once() -> None:
    started = time.perf_counter()
    tracemalloc.start()
    truth = Hypervisor(sim.named("sim:ppc64-64g"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert truth.domains[LARGE1].tot_pages == 16_777_216
    assert most < 4 << 20
    assert time.perf_counter() - started < 5


def test_all_frames_of_a_guest_of_64_gib(old_of: Any) -> None:
    old = old_of("sim:ppc64-64g")
    count, at_once = 16_777_216, (1 << 20) // 8
    arena = old.buffer(8 * at_once)
    # Made at once: to grow, it would need room for several of its size, which a 32-bit process may not have.
    found = array("Q", [0]) * count
    with memoryview(found).cast("B") as room:
        for first in range(0, count, at_once):
            assert getmemlist2(old, LARGE1, at_once, first, arena.address) == (0, at_once)
            room[8 * first : 8 * (first + at_once)] = arena.view
    assert getmemlist2(old, LARGE1, at_once, count, arena.address) == (0, 0)
    if sys.byteorder == "little":
        found.byteswap()
    runs = old.xen.machine.memory_of(LARGE1).runs
    for first in (0, 1, 4095):
        assert list(found[first::4096]) == [mfn for run in runs for mfn in run[first::4096]]


def test_destroying_a_guest_of_64_gib(old_of: Any) -> None:
    old = old_of("sim:ppc64-64g")
    free = old.xen.machine.heap.free
    assert old.ask(9, u16(0, LARGE1)).result == 0
    assert old.xen.machine.heap.free == free + 16_777_216 + 5, "its memory, shared_info and four grant frames"


@needs_the_kernel
def test_frames_of_a_guest_are_mapped_wherever_they_are(old_of: Any) -> None:
    old = old_of("sim:ppc64-64g")
    last = old.xen.machine.memory_of(LARGE1).runs[-1][-1]
    old.xen.machine.memory.write(last, 0, b"the last page")
    with old.link.map_frames(LARGE1, array("Q", [last])) as window, memoryview(window) as view:
        assert bytes(view[:13]) == b"the last page"


def x86(old_of: Any) -> OldXen:
    old: OldXen = old_of("sim:xen-3.0")
    return old


def test_the_type_of_a_frame(old_of: Any) -> None:
    old = x86(old_of)
    tables = old.xen.machine.types
    for mfn in (next(mfn for mfn in tables if tables[mfn] == kind) for kind in (L1, L4_PINNED)):
        domid = next(domid for domid in range(4) if old.xen.machine.owned_by(mfn, domid))
        answer = old.ask(PAGEFRAMEINFO, u64(0, mfn), u16(8, domid))
        assert (answer.result, answer.number(12, 4)) == (0, tables[mfn] & 7 << 28)


def test_the_type_of_a_frame_that_is_not_the_domains(old_of: Any) -> None:
    old = x86(old_of)
    mfn = old.owned(WEB1)[0]
    assert old.ask(PAGEFRAMEINFO, u64(0, mfn), u16(8, WEB1)).number(12, 4) == 0
    for frame, domid in ((mfn, BUILD), (mfn, ABSENT), (2**64 - 1, WEB1)):
        assert old.ask(PAGEFRAMEINFO, u64(0, frame), u16(8, domid)).result == -errno.EINVAL


def test_types_are_put_on_top_of_frame_numbers(old_of: Any) -> None:
    old = x86(old_of)
    tables = old.xen.machine.types
    root = next(mfn for mfn in tables if tables[mfn] == L4_PINNED and old.xen.machine.owned_by(mfn, BUILD))
    plain, foreign, beyond = old.owned(BUILD)[0], old.owned(WEB1)[0], 1 << 40
    frames = (plain, root, foreign, beyond)
    arena = old.buffer(b"".join(mfn.to_bytes(8, "little") for mfn in frames))
    assert old.ask(PAGEFRAMEINFO2, u16(0, BUILD), u64(8, 4), u64(16, arena.address)).result == 0
    assert old.words(arena.view[:32]) == [plain, root | L4_PINNED, foreign | NONE, beyond | NONE]


def test_how_many_types_at_once(old_of: Any) -> None:
    old = x86(old_of)
    arena = old.buffer(8 * 1025)
    assert old.ask(PAGEFRAMEINFO2, u16(0, ABSENT), u64(8, 1025)).result == -errno.ESRCH
    assert old.ask(PAGEFRAMEINFO2, u16(0, BUILD), u64(8, 1025), u64(16, arena.address)).result == -errno.E2BIG
    assert old.ask(PAGEFRAMEINFO2, u16(0, BUILD), u64(8, 1024), u64(16, arena.address)).result == 0
    assert old.ask(PAGEFRAMEINFO2, u16(0, BUILD), u64(8, 1), u64(16, 16)).result == -errno.EINVAL


def test_dirty_memory(old_of: Any) -> None:
    old = x86(old_of)
    arena = old.buffer(b"\xff" * 2048)

    def control(op: int, domid: int = BUILD, bitmap: int = arena.address) -> tuple[int, int]:
        answer = old.ask(SHADOW, u16(0, domid), u32(4, op), u64(8, bitmap), u64(16, 10_000))
        return answer.result, answer.number(16, 8)

    assert control(LOGDIRTY, ABSENT)[0] == -errno.ESRCH
    assert control(LOGDIRTY, 0)[0] == -errno.EINVAL
    assert control(PEEK)[0] == control(TRANSLATE)[0] == -errno.EINVAL
    assert control(LOGDIRTY)[0] == control(FLUSH)[0] == 0
    assert control(TRANSLATE)[0] == control(13)[0] == -errno.EINVAL
    assert control(PEEK) == control(CLEAN) == (0, 8_192)
    assert bytes(arena.view[:1025]) == bytes(1024) + b"\xff"
    assert control(CLEAN, bitmap=0)[0] == control(CLEAN, bitmap=16)[0] == -errno.EINVAL
    assert control(OFF)[0] == 0
    assert control(CLEAN)[0] == -errno.EINVAL


def test_a_hypercall_page(old_of: Any) -> None:
    old = x86(old_of)
    mfn = old.owned(BUILD)[0]
    assert old.ask(HYPERCALL_INIT, u16(0, BUILD), u64(8, mfn)).result == 0
    assert old.xen.machine.memory.read(mfn, 7 * 32, 16) == bytes.fromhex("514153b8070000000f05415b59c3cccc")
    assert old.ask(HYPERCALL_INIT, u16(0, ABSENT), u64(8, mfn)).result == -errno.ESRCH
    table = next(mfn for mfn in old.xen.machine.types if old.xen.machine.owned_by(mfn, BUILD))
    for frame in (old.owned(WEB1)[0], table, 2**64 - 1):
        assert old.ask(HYPERCALL_INIT, u16(0, BUILD), u64(8, frame)).result == -errno.EACCES
