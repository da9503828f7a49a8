# SPDX-License-Identifier: MIT
"""Vcpus: where they run, where they may, and what is in their registers."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from pyxc.abi import domctl, domctl_paging, domctl_vcpu, memory
from pyxc.abi.arch import x86
from pyxc.abi.arch.x86 import ContextFlag
from pyxc.abi.domctl import AffinityFlag

HARD, SOFT = int(AffinityFlag.HARD), int(AffinityFlag.SOFT)


def affinity(
    client: Any, operation: Any, vcpu: int, flags: int, hard: bytes, soft: bytes, domid: int = 1
) -> Any:
    """Asks with maps of these contents; answers the result and the maps afterwards."""
    maps = [client.buffer(content) for content in (hard, soft)]
    fields = {"cpumap_hard.bitmap": maps[0].address, "cpumap_hard.nr_bits": 8 * len(hard),
              "cpumap_soft.bitmap": maps[1].address, "cpumap_soft.nr_bits": 8 * len(soft)}  # fmt: skip
    answer = client.call(operation, domid, vcpu=vcpu, flags=flags, **fields)
    return answer.result, bytes(maps[0].view[: len(hard)]), bytes(maps[1].view[: len(soft)])


def test_info_of_a_vcpu(client: Any) -> None:
    busy = client.call(domctl.GETVCPUINFO, 2, vcpu=0)
    assert (busy["online"], busy["blocked"], busy["running"], busy["cpu"]) == (1, 0, 1, 1)
    idle = client.call(domctl.GETVCPUINFO, 1, vcpu=1)
    assert (idle["online"], idle["blocked"], idle["running"]) == (1, 1, 0)
    assert client.call(domctl.GETVCPUINFO, 1, vcpu=2).result == -errno.EINVAL


@pytest.mark.parametrize(("release", "missing"), [((4, 20), errno.EINVAL), ((4, 22), errno.ENOENT)])
def test_info_of_a_vcpu_that_is_not_there(client_of: Any, release: tuple[int, int], missing: int) -> None:
    client = client_of(release)
    assert client.call(domctl.GETVCPUINFO, 1, vcpu=2).result == -missing
    assert client.call(domctl.GETVCPUINFO, 99, vcpu=0).result == -errno.ESRCH
    maps = affinity(client, domctl.GETVCPUAFFINITY, 2, HARD, b"\0", b"\0")
    assert maps[0] == -errno.EINVAL, "the others have kept theirs"


@pytest.mark.parametrize(("release", "shown"), [((4, 20), "0f"), ((4, 22), "00")])
def test_a_map_that_is_cut_may_end_in_the_wrong_byte(
    client_of: Any, release: tuple[int, int], shown: str
) -> None:
    client = client_of(release)
    client.xen.domains[1].nodes = 0x0F
    nodes = client.buffer(b"\xaa" * 8)
    fields = {"nodemap.bitmap": nodes.address, "nodemap.nr_bits": 4}
    assert client.call(domctl.GETNODEAFFINITY, 1, **fields).result == 0
    assert bytes(nodes.view[:2]).hex() == f"{shown}aa"
    assert client.call(domctl.GETNODEAFFINITY, 1, **{**fields, "nodemap.nr_bits": 64}).result == 0
    assert bytes(nodes.view[:2]).hex() == "0f00"


def test_maps_are_cut_and_filled_up(client: Any) -> None:
    get = domctl.GETVCPUAFFINITY
    assert affinity(client, get, 0, HARD | SOFT, b"\xff" * 16, b"\xff") == (0, b"\x03" + bytes(15), b"\x03")
    assert affinity(client, get, 0, SOFT, b"\xff", b"\xff" * 2) == (0, b"\xff", b"\x03\0")


def test_what_takes_effect_comes_back(client: Any) -> None:
    result = affinity(client, domctl.SETVCPUAFFINITY, 1, HARD | SOFT, b"\xfe\xff", b"\x03")
    assert result == (0, b"\x02\0", b"\x02")
    assert affinity(client, domctl.GETVCPUAFFINITY, 1, HARD | SOFT, b"\0", b"\0") == (0, b"\x02", b"\x03")


def test_a_pinned_vcpu_moves_and_waits_its_turn(client: Any) -> None:
    affinity(client, domctl.SETVCPUAFFINITY, 0, HARD, b"\x01", b"\0", domid=2)
    moved = client.call(domctl.GETVCPUINFO, 2, vcpu=0)
    assert (moved["cpu"], moved["running"]) == (0, 0)


def test_refused_affinities_leave_everything_as_it_was(client: Any) -> None:
    setting = domctl.SETVCPUAFFINITY
    assert affinity(client, setting, 0, HARD, b"\xfc", b"\0")[0] == -errno.EINVAL
    assert affinity(client, setting, 0, 0, b"\x01", b"\x01")[0] == -errno.EINVAL
    assert affinity(client, setting, 9, HARD, b"\x01", b"\x01")[0] == -errno.EINVAL
    hard = client.buffer(b"\x01")
    fields = {"cpumap_hard.bitmap": hard.address, "cpumap_hard.nr_bits": 8, "cpumap_soft.nr_bits": 8}
    both = {"vcpu": 0, "flags": HARD | SOFT}
    assert client.call(setting, 1, **both, **fields).result == -errno.EINVAL
    assert client.call(setting, 1, **both, **fields, **{"cpumap_soft.bitmap": 8}).result == -errno.EFAULT
    assert affinity(client, domctl.GETVCPUAFFINITY, 0, HARD, b"\0", b"\0")[1] == b"\x03"


@pytest.mark.parametrize(("release", "result"), [((4, 17), 0), ((4, 20), -errno.EFAULT)])
def test_a_fault_in_the_first_of_two_maps(client_of: Any, release: tuple[int, int], result: int) -> None:
    client = client_of(release)
    fields = {"cpumap_hard.bitmap": 8, "cpumap_hard.nr_bits": 8,
              "cpumap_soft.bitmap": client.buffer(1).address, "cpumap_soft.nr_bits": 8}  # fmt: skip
    assert client.call(domctl.GETVCPUAFFINITY, 1, vcpu=0, flags=HARD | SOFT, **fields).result == result


def test_a_vcpu_that_was_not_made_yet(client: Any) -> None:
    fields = {"max_vcpus": 1, "max_grant_frames": -1, "max_maptrack_frames": -1, "grant_opts": 2}
    domid = client.call(domctl.CREATEDOMAIN, 0x7FF5, **fields)["domid"]
    assert client.call(domctl.GETVCPUINFO, domid, vcpu=0).result == -errno.ESRCH
    assert client.call(domctl.GETVCPUCONTEXT, domid, vcpu=0).result == -errno.EINVAL
    assert client.call(domctl_paging.SHADOW_OP_GET_ALLOCATION, domid).result == -errno.EINVAL
    client.call(domctl.MAX_VCPUS, domid, max=1)
    assert client.call(domctl.GETVCPUCONTEXT, domid, vcpu=0).result == -errno.ENODATA


def read(client: Any, domid: int, vcpu: int = 0) -> dict[str, Any]:
    layout = x86.VCPU_GUEST_CONTEXT_STRUCT.at(client.interface)
    arena = client.buffer(layout.size)
    assert client.call(domctl.GETVCPUCONTEXT, domid, vcpu=vcpu, ctxt=arena.address).result == 0
    return dict(layout.unpack(arena.view))


def write(
    client: Any, fields: dict[str, Any], domid: int = 1, table: Any = x86.VCPU_GUEST_CONTEXT_STRUCT
) -> int:
    arena = client.buffer(table.at(client.interface).pack(fields))
    return int(client.call(domctl.SETVCPUCONTEXT, domid, vcpu=0, ctxt=arena.address).result)


def test_contexts_of_running_guests(any_client: Any) -> None:
    assert read(any_client, 1)["user_regs.cs"] == 0xE033
    assert read(any_client, 2)["user_regs.cs"] == 0x10
    assert read(any_client, 0, vcpu=1)["flags"] & ContextFlag.ONLINE


def test_the_calling_vcpu_cannot_be_read(any_client: Any) -> None:
    own = -errno.EINVAL if any_client.xen.profile.since(4, 2) else -errno.EFAULT
    assert any_client.call(domctl.GETVCPUCONTEXT, 0, vcpu=0).result == own
    assert any_client.call(domctl.GETVCPUCONTEXT, 1, vcpu=0, ctxt=8).result == -errno.EFAULT


def test_registers_change_and_privileges_do_not(client: Any) -> None:
    fields = read(client, 1)
    changed = {**fields, "user_regs.rip": 0x1234, "user_regs.rflags": 0, "user_regs.cs": 0xE030,
               "flags": fields["flags"] & ~ContextFlag.ONLINE}  # fmt: skip
    assert write(client, changed) == 0
    after = read(client, 1)
    assert (after["user_regs.rip"], after["user_regs.cs"], after["user_regs.rflags"]) == (
        0x1234,
        0xE033,
        0x200,
    )
    assert client.call(domctl.GETVCPUINFO, 1, vcpu=0)["online"] == 0


@pytest.mark.parametrize(
    ("release", "rflags", "fpu"),
    [((4, 20), 0xFFFF_FFFF_0002_8200, 0), ((4, 22), 0x0000_0000_0000_0202, ContextFlag.I387_VALID)],
)
def test_since_4_22_only_flags_that_a_processor_has_are_kept(
    client_of: Any, release: tuple[int, int], rflags: int, fpu: int
) -> None:
    client = client_of(release)
    fields = read(client, 1)
    without_fpu = fields["flags"] & ~ContextFlag.I387_VALID
    assert write(client, {**fields, "flags": without_fpu, "user_regs.rflags": 0xFFFF_FFFF_0002_8000}) == 0
    after = read(client, 1)
    assert (after["user_regs.rflags"], after["flags"] & ContextFlag.I387_VALID) == (rflags, fpu)


@pytest.mark.parametrize(
    "change",
    [
        {"user_regs.rip": 1 << 47},
        {"ldt_base": 1},
        {"ldt_ents": 8193},
        {"gdt_ents": 8193},
        {"trap_ctxt": b"\0" * 8 + (1 << 50).to_bytes(8, "little") + bytes(16 * 255)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_contexts_that_make_no_sense(client: Any, change: dict[str, Any]) -> None:
    assert write(client, {**read(client, 1), **change}) == -errno.EINVAL


def test_page_tables_stay_once_a_vcpu_has_them(client: Any) -> None:
    fields = read(client, 1)
    control = (*fields["ctrlreg"][:3], fields["ctrlreg"][3] + 4096, *fields["ctrlreg"][4:])
    assert write(client, {**fields, "ctrlreg": control}) == -errno.EOPNOTSUPP


def test_a_reset_vcpu_needs_its_own_page_tables(client: Any) -> None:
    fields = read(client, 1)
    assert client.call(domctl.SETVCPUCONTEXT, 1, vcpu=0, ctxt=0).result == 0
    assert client.call(domctl.GETVCPUCONTEXT, 1, vcpu=0).result == -errno.ENODATA
    foreign = (*fields["ctrlreg"][:3], 0, *fields["ctrlreg"][4:])
    assert write(client, {**fields, "ctrlreg": foreign}) == -errno.EINVAL
    assert write(client, {**fields, "flags": 0}) == -errno.EINVAL
    assert write(client, fields) == 0


def test_who_cannot_be_given_a_context(client: Any) -> None:
    fields = read(client, 1)
    assert write(client, fields, domid=0) == -errno.EINVAL
    assert client.call(domctl.SETVCPUCONTEXT, 1, vcpu=7, ctxt=8).result == -errno.EINVAL
    assert client.call(domctl.SETVCPUCONTEXT, 1, vcpu=0, ctxt=8).result == -errno.EFAULT


def test_control_registers_of_a_translated_vcpu_stay(client: Any) -> None:
    before = read(client, 2)
    assert write(client, {**before, "ctrlreg": (0,) * 8, "user_regs.rax": 5}, domid=2) == 0
    after = read(client, 2)
    assert (after["ctrlreg"], after["user_regs.rax"]) == (before["ctrlreg"], 5)


def test_setting_registers_does_not_initialise_a_translated_vcpu(client: Any) -> None:
    before = read(client, 2)
    client.call(domctl.SETVCPUCONTEXT, 2, vcpu=0, ctxt=0)
    assert write(client, before, domid=2) == 0
    arena = client.buffer(x86.VCPU_GUEST_CONTEXT_STRUCT.at(client.interface).size)
    assert client.call(domctl.GETVCPUCONTEXT, 2, vcpu=0, ctxt=arena.address).result == -errno.ENODATA


def test_a_32_bit_guest_has_contexts_of_its_own_width(client_of: Any) -> None:
    client = client_of((4, 10))
    domid = client.call(domctl.CREATEDOMAIN, 0x7FF5)["domid"]
    client.call(domctl.MAX_VCPUS, domid, max=1)
    client.call(domctl.SET_ADDRESS_SIZE, domid, size=32)
    client.call(domctl.MAX_MEM, domid, max_memkb=64)
    pfn = client.buffer(16)
    client.call(memory.POPULATE_PHYSMAP, domid, extent_start=pfn.address, nr_extents=2)
    root, below = (int.from_bytes(pfn.view[at : at + 8], "little") for at in (0, 8))
    client.xen.machine.memory.write(root, 3 * 8, (below << 12 | 1).to_bytes(8, "little"))
    table = x86.VCPU_GUEST_CONTEXT_32_STRUCT
    fields = {
        "ctrlreg": (0, 0, 0, (root << 12 | root >> 20) & 0xFFFFFFFF, 0, 0, 0, 0),
        "user_regs.eip": 0xC0001000,
    }
    assert write(client, {**fields, "ctrlreg": (0,) * 8}, domid, table) == -errno.EINVAL
    assert write(client, fields, domid, table) == 0
    arena = client.buffer(4096)
    arena.view[2800:] = b"\xa5" * (len(arena.view) - 2800)
    assert client.call(domctl.GETVCPUCONTEXT, domid, vcpu=0, ctxt=arena.address).result == 0
    back = table.at(client.interface).unpack(arena.view)
    assert (back["user_regs.eip"], back["user_regs.eflags"], back["user_regs.cs"]) == (0xC0001000, 0x200, 1)
    assert set(arena.view[2800:]) == {0xA5}


def test_what_a_vcpu_has_besides_its_registers(client: Any) -> None:
    asked = client.call(domctl_vcpu.GETVCPUEXTSTATE, 1, vcpu=0)
    assert (asked["xfeature_mask"], asked["size"]) == (0x21F, 0xA98)
    area = client.buffer(bytes(0xA98))
    found = client.call(domctl_vcpu.GETVCPUEXTSTATE, 1, vcpu=0, size=0xA98, buffer=area.address)
    assert (found.result, found["size"]) == (0, 16), "it has not used any"
    short = client.call(domctl_vcpu.GETVCPUEXTSTATE, 1, vcpu=0, size=8, buffer=area.address)
    assert short.result == -errno.EINVAL
    for size in (15, 0xA99):
        refused = client.call(domctl_vcpu.SETVCPUEXTSTATE, 1, vcpu=0, size=size, buffer=area.address)
        assert refused.result == -errno.EINVAL
    area.view[:8] = (1 << 40).to_bytes(8, "little")
    unknown = client.call(domctl_vcpu.SETVCPUEXTSTATE, 1, vcpu=0, size=16, buffer=area.address)
    assert unknown.result == -errno.EINVAL, "a feature that no cpu has"
    assert client.call(domctl_vcpu.GETVCPUEXTSTATE, 1, vcpu=2).result == -errno.ESRCH


def test_msrs_of_a_vcpu(client: Any) -> None:
    asked = client.call(domctl_vcpu.GET_VCPU_MSRS, 1, vcpu=0)
    assert (asked.result, asked["msr_count"]) == (0, 7)
    area = client.buffer(bytes(range(32)))
    fields = {"msr_count": 2, "msrs": area.address}
    assert client.call(domctl_vcpu.SET_VCPU_MSRS, 1, vcpu=0, **fields).result == 0
    assert client.call(domctl_vcpu.GET_VCPU_MSRS, 1, vcpu=0, **fields).result == -errno.ENOBUFS
    assert client.call(domctl_vcpu.SET_VCPU_MSRS, 1, vcpu=0, msr_count=8).result == -errno.EINVAL
    for domid, vcpu in ((2, 0), (1, 2), (0, 0)):
        assert client.call(domctl_vcpu.GET_VCPU_MSRS, domid, vcpu=vcpu).result == -errno.EINVAL


def test_extended_contexts(client: Any) -> None:
    found = client.call(domctl_vcpu.GET_EXT_VCPUCONTEXT, 1, vcpu=1)
    assert (found.result, found["vcpu"], found["size"]) == (0, 1, 64)
    callback = {"syscall32_callback_eip": 0x1000}
    assert client.call(domctl_vcpu.SET_EXT_VCPUCONTEXT, 1, vcpu=1, size=64, **callback).result == 0
    assert client.call(domctl_vcpu.GET_EXT_VCPUCONTEXT, 1, vcpu=1)["syscall32_callback_eip"] == 0x1000
    assert client.call(domctl_vcpu.SET_EXT_VCPUCONTEXT, 1, vcpu=1, size=8).result == -errno.EINVAL
    assert (
        client.call(domctl_vcpu.SET_EXT_VCPUCONTEXT, 2, vcpu=0, size=64, **callback).result == -errno.EINVAL
    )
    assert client.call(domctl_vcpu.GET_EXT_VCPUCONTEXT, 1, vcpu=2).result == -errno.ESRCH
