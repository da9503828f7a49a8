# SPDX-License-Identifier: MIT
"""dom0_op: vcpus of 2006, where they run and what is in their registers."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from dom0_op_bytes import OldXen, u16, u32, u64

CREATE, UNPAUSE, SETCONTEXT, AFFINITY, GETCONTEXT, MAX_VCPUS, VCPUINFO = 8, 11, 13, 20, 37, 41, 43
WEB1, DB1, BUILD, ABSENT = 1, 2, 3, 0x7000
CONTEXT_SIZE = {True: 344, False: 5168}
"""On PowerPC, and on x86."""
PC, MSR, CR, SDR1 = 288, 296, 328, 336
FLAGS, RIP, CS, RFLAGS, CR3, GDT_FRAMES, GDT_ENTS = 512, 648, 656, 664, 4984 + 24, 4832, 4960


def context_of(old: OldXen, domid: int, vcpu: int = 0) -> bytes:
    arena = old.buffer(CONTEXT_SIZE[old.powerpc])
    assert old.ask(GETCONTEXT, u16(0, domid), u32(4, vcpu), u64(8, arena.address)).result == 0
    return bytes(arena.view[: CONTEXT_SIZE[old.powerpc]])


def set_context(old: OldXen, domid: int, context: bytes, vcpu: int = 0) -> int:
    arena = old.buffer(context)
    return old.ask(SETCONTEXT, u16(0, domid), u32(4, vcpu), u64(8, arena.address)).result


def test_a_vcpu(old: OldXen) -> None:
    answer = old.ask(VCPUINFO, u16(0, WEB1), u32(4, 1))
    assert (answer.result, list(answer.body[8:11])) == (0, [1, 1, 0])
    assert (answer.number(16, 8), answer.number(24, 4), answer.number(32, 8)) == (6_000_000_000, 1, 2**32 - 1)


@pytest.mark.parametrize("command", [VCPUINFO, GETCONTEXT])
def test_vcpus_that_are_not_there(old: OldXen, command: int) -> None:
    assert old.ask(command, u16(0, ABSENT), u32(4, 32)).result == -errno.ESRCH
    assert old.ask(command, u16(0, WEB1), u32(4, 32)).result == -errno.EINVAL
    assert old.ask(command, u16(0, WEB1), u32(4, 31)).result == -errno.ESRCH


@pytest.mark.parametrize("command", [AFFINITY, SETCONTEXT])
def test_vcpus_that_cannot_be_changed(old: OldXen, command: int) -> None:
    assert old.ask(command, u16(0, ABSENT), u32(4, 32), u64(8, 1)).result == -errno.ESRCH
    for vcpu in (2, 31, 32, 2**32 - 1):
        assert old.ask(command, u16(0, WEB1), u32(4, vcpu), u64(8, 1)).result == -errno.EINVAL
    assert old.ask(command, u16(0, 0), u32(4, 0), u64(8, 1)).result == -errno.EINVAL


def test_an_affinity_is_one_word(old: OldXen) -> None:
    def pin(cpumap: int) -> int:
        return old.ask(AFFINITY, u16(0, DB1), u64(8, cpumap)).result

    assert pin(1 << 63 | 1) == 0
    answer = old.ask(VCPUINFO, u16(0, DB1))
    assert (answer.number(24, 4), answer.number(32, 8)) == (0, 1 << 63 | 1)
    assert pin(1 << 63) == pin(0) == -errno.EINVAL
    assert old.ask(AFFINITY, u16(0, 0), u32(4, 1), u64(8, 1)).result == 0


def test_registers_of_powerpc_are_344_bytes_big_end_first(old_of: Any) -> None:
    old = old_of("sim:ppc64")
    arena = old.buffer(b"\xff" * 4096)
    assert old.ask(GETCONTEXT, u16(0, WEB1), u32(4, 0), u64(8, arena.address)).result == 0
    assert bytes(arena.view[PC : PC + 8]) == bytes.fromhex("c000000000012f40")
    assert bytes(arena.view[MSR : MSR + 8]) == bytes.fromhex("800000000000b032")
    assert bytes(arena.view[CR : CR + 4]) == bytes.fromhex("24000048")
    assert bytes(arena.view[343:345]) == b"\x00\xff"


def test_registers_of_x86_are_5168_bytes(old_of: Any) -> None:
    old = old_of("sim:xen-3.0")
    arena = old.buffer(b"\xff" * 8192)
    assert old.ask(GETCONTEXT, u16(0, WEB1), u32(4, 0), u64(8, arena.address)).result == 0
    assert bytes(arena.view[RIP : RIP + 8]) == bytes.fromhex("aa030081ffffffff")
    assert bytes(arena.view[5168:5176]) == b"\xff" * 8


def test_registers_need_room(old: OldXen) -> None:
    arena = old.buffer(8192)
    too_late = arena.address + arena.size - CONTEXT_SIZE[old.powerpc] + 1
    for command in (GETCONTEXT, SETCONTEXT):
        assert old.ask(command, u16(0, WEB1), u64(8, too_late)).result == -errno.EFAULT
        assert old.ask(command, u16(0, WEB1), u64(8, 0)).result == -errno.EFAULT


def test_a_domain_runs_once_it_has_registers(old: OldXen) -> None:
    context = context_of(old, BUILD)
    domid = old.create()
    assert old.ask(MAX_VCPUS, u16(0, domid), u32(4, 2)).result == 0
    assert old.ask(GETCONTEXT, u16(0, domid), u64(8, old.buffer(8192).address)).result == -errno.ENODATA
    if not old.powerpc:
        (frame,) = old.xen.machine.allocate_run(domid, 1)
        context = context[:CR3] + (frame << 12).to_bytes(8, "little") + context[CR3 + 8 :]
    assert set_context(old, domid, context) == 0
    place = PC if old.powerpc else RIP
    assert context_of(old, domid)[place : place + 8] == context[place : place + 8]
    assert old.ask(GETCONTEXT, u16(0, domid), u32(4, 1), u64(8, 8)).result == -errno.ENODATA
    assert old.ask(UNPAUSE, u16(0, domid)).result == 0


def test_registers_change(old: OldXen) -> None:
    place = PC if old.powerpc else RIP
    context = bytearray(context_of(old, BUILD))
    context[place : place + 8] = bytes(range(8))
    assert set_context(old, BUILD, bytes(context)) == 0
    assert context_of(old, BUILD)[place : place + 8] == bytes(range(8))


def test_powerpc_does_not_show_where_page_tables_are(old_of: Any) -> None:
    old = old_of("sim:ppc64")
    context = context_of(old, BUILD)[:SDR1] + b"\x11" * 8
    assert set_context(old, BUILD, context) == 0
    assert context_of(old, BUILD)[SDR1:] == bytes(8)


def test_x86_registers_are_made_safe(old_of: Any) -> None:
    old = old_of("sim:xen-3.0")
    context = bytearray(context_of(old, BUILD))
    for place, value in ((FLAGS, 0xFFFF), (CS, 0x8), (RFLAGS, 0x2), (CR3, 0x1000)):
        context[place : place + 8] = value.to_bytes(8, "little")
    root = context_of(old, BUILD)[CR3 : CR3 + 8]
    assert set_context(old, BUILD, bytes(context)) == 0
    made = context_of(old, BUILD)
    numbers = [int.from_bytes(made[place : place + 8], "little") for place in (FLAGS, RFLAGS)]
    assert numbers == [0b101, 0x202]
    assert made[CS] == 0xB
    assert made[CR3 : CR3 + 8] == root


def test_the_first_registers_of_x86_name_tables_of_the_domain(old_of: Any) -> None:
    old = old_of("sim:xen-3.0")
    domid = old.create()
    (frame,) = old.xen.machine.allocate_run(domid, 1)
    context = bytearray(context_of(old, BUILD))

    def adopt(root: int, gdt_entries: int) -> int:
        for place, value in ((CR3, root << 12), (GDT_FRAMES, frame), (GDT_ENTS, gdt_entries)):
            context[place : place + 8] = value.to_bytes(8, "little")
        return set_context(old, domid, bytes(context))

    assert adopt(old.owned(WEB1)[0], 0) == -errno.EINVAL
    assert adopt(frame, 513) == -errno.EINVAL
    assert adopt(frame, 512 * 16 + 1) == -errno.EINVAL
    assert adopt(frame, 512) == 0
