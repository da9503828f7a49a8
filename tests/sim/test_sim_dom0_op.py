# SPDX-License-Identifier: MIT
"""dom0_op: what is checked and in which order, and domains that come, change and go."""

from __future__ import annotations

import errno
from array import array
from typing import Any

import pytest
from dom0_op_bytes import HYPERCALL, SIZE, OldXen, u8, u16, u32, u64

from pyxc.sim import operations

(SCHEDCTL, ADJUSTDOM, CREATE, DESTROY, PAUSE, UNPAUSE, GETDOMAININFO) = (6, 7, 8, 9, 10, 11, 12)
(MAXMEM, PERFC, LIST, MAX_VCPUS, HANDLE, DEBUGGING) = (28, 34, 38, 41, 44, 45)
IRQ_PERMISSION, IOMEM_PERMISSION, IOPORT_PERMISSION = 46, 47, 36
TARGETS = ("sim:ppc64", "sim:xen-3.0")
WEB1, DB1, BUILD, ABSENT = 1, 2, 3, 0x7000
SELF = 0x7FF0
DYING, PAUSED, BLOCKED, RUNNING = 1, 8, 16, 32


def flags(old: OldXen, domid: int) -> int:
    return old.ask(GETDOMAININFO, u16(0, domid)).number(4, 4)


def test_the_copy_comes_before_the_version_and_the_version_before_the_command(old: OldXen) -> None:
    arena = old.buffer(SIZE)
    assert old.link.hypercall(HYPERCALL, arena.address + arena.size - SIZE + 1) == -errno.EFAULT
    assert old.ask(9999, version=0x03000001).result == -errno.EACCES
    assert old.ask(9999).result == -errno.ENOSYS


def test_a_version_in_the_other_byte_order_is_no_version(old: OldXen) -> None:
    assert old.ask(GETDOMAININFO, version=0x00000003).result == -errno.EACCES


@pytest.mark.parametrize("command", [1, 3, 16, 23, 26, 30, PERFC, 49, 50, 2**32 - 1])
def test_commands_that_the_header_of_the_day_lacks_are_unknown(old: OldXen, command: int) -> None:
    assert old.ask(command).result == -errno.ENOSYS


@pytest.mark.parametrize("command", [18, 25, 29, 36, 48])
def test_commands_of_x86_are_unknown_on_powerpc(old_of: Any, command: int) -> None:
    assert old_of("sim:ppc64").ask(command).result == -errno.ENOSYS
    assert old_of("sim:xen-3.0").ask(command, u16(0, ABSENT)).result != -errno.ENOSYS


@pytest.mark.parametrize("hypercall", [34, 35, 36])
def test_hypercalls_of_later_are_unknown(old: OldXen, hypercall: int) -> None:
    assert old.link.hypercall(hypercall, old.buffer(256).address) == -errno.ENOSYS


def test_dom0_op_is_unknown_later(client: Any) -> None:
    assert client.link.hypercall(HYPERCALL, client.buffer(SIZE).address) == -errno.ENOSYS


def test_a_structure_must_lie_where_its_address_says(old: OldXen) -> None:
    address = old.buffer(SIZE).address
    for wrong in (0, swapped_halves(address), address | 0xFFFFFFFF << 32, swapped_bytes(address)):
        assert old.link.hypercall(HYPERCALL, wrong) == -errno.EFAULT


def swapped_halves(address: int) -> int:
    """What a union of a u64 and a pointer makes of an address that a 32-bit big-endian program stores."""
    return (address & 0xFFFFFFFF) << 32 | address >> 32


def swapped_bytes(address: int) -> int:
    return int.from_bytes(address.to_bytes(8, "little"), "big")


@pytest.mark.parametrize("wrong", [swapped_halves, swapped_bytes, lambda address: address | 0xFFFFFFFF << 32])
def test_a_handle_must_be_zero_extended_in_the_order_of_the_hypervisor(old: OldXen, wrong: Any) -> None:
    address = old.buffer(72).address
    assert old.ask(LIST, u32(4, 1), u64(8, address)).result == 0
    assert old.ask(LIST, u32(4, 1), u64(8, wrong(address))).result == -errno.EFAULT


def test_a_record_is_laid_out_as_in_the_header(old: OldXen) -> None:
    web1 = old.xen.domains[WEB1]
    answer = old.ask(GETDOMAININFO, u16(0, WEB1))
    assert answer.result == 0
    assert (answer.number(0, 2), answer.number(4, 4)) == (WEB1, BLOCKED)
    assert [answer.number(at, 8) for at in (8, 16, 24)] == [16_384, 16_640, web1.shared_info]
    assert answer.number(32, 8) == 11_000_000_000
    assert [answer.number(at, 4) for at in (40, 44, 48)] == [2, 1, 0]
    assert answer.body[52:68] == web1.handle
    assert answer.body[68:] == bytes(60)


def test_a_number_has_its_big_end_first_on_powerpc(old_of: Any) -> None:
    on_powerpc, on_x86 = (old_of(target).ask(GETDOMAININFO, u16(0, WEB1)) for target in TARGETS)
    assert on_powerpc.body[8:16] == bytes.fromhex("0000000000004000")
    assert on_x86.body[8:16] == bytes.fromhex("0040000000000000")


def test_a_missing_id_means_the_next_one_and_self_the_caller(old: OldXen) -> None:
    old.ask(DESTROY, u16(0, WEB1))
    assert old.ask(GETDOMAININFO, u16(0, WEB1)).number(0, 2) == DB1
    assert old.ask(GETDOMAININFO, u16(0, BUILD + 1)).result == -errno.ESRCH
    own = old.ask(GETDOMAININFO, u16(0, SELF))
    assert (own.result, own.number(0, 2)) == (0, 0)


def test_what_domains_do(old: OldXen) -> None:
    assert [flags(old, domid) for domid in range(4)] == [RUNNING, BLOCKED, RUNNING, PAUSED]
    old.xen.domains[DB1].shutdown_code = 3
    old.xen.schedule()
    assert flags(old, DB1) == 4 | 3 << 16


def test_a_list_holds_records_of_72_bytes(old: OldXen) -> None:
    arena = old.buffer(b"\xff" * 288)
    answer = old.ask(LIST, u16(0, WEB1), u32(4, 2), u64(8, arena.address))
    assert (answer.result, answer.number(16, 4)) == (0, 2)
    listed = [int.from_bytes(arena.view[at : at + 2], old.byteorder) for at in (0, 72)]
    assert listed == [WEB1, DB1]
    assert bytes(arena.view[144:288]) == b"\xff" * 144
    assert old.ask(LIST, u16(0, 4), u32(4, 2), u64(8, arena.address)).number(16, 4) == 0


def test_a_new_domain_is_paused_and_has_one_vcpu(old: OldXen) -> None:
    domid = old.create()
    assert domid == BUILD + 1
    fresh = old.ask(GETDOMAININFO, u16(0, domid))
    assert fresh.number(4, 4) == PAUSED
    assert [fresh.number(at, 8) for at in (8, 16)] == [0, 0]
    assert [fresh.number(at, 4) for at in (40, 44)] == [1, 0]


def test_an_id_is_given_once_and_reserved_ones_mean_any(old: OldXen) -> None:
    assert old.ask(CREATE, u16(20, WEB1)).result == -errno.EINVAL
    assert old.create(77) == 77
    assert [old.create(SELF), old.create(0x7FF5), old.create(0xFFFF)] == [4, 5, 6]


def test_ids_come_to_an_end(old: OldXen) -> None:
    old.xen.domains.update(dict.fromkeys(range(4, 0x7FF0), old.xen.domains[BUILD]))
    assert old.ask(CREATE).result == -errno.ENOMEM


def test_pausing_is_not_counted(old: OldXen) -> None:
    for _ in range(2):
        assert old.ask(PAUSE, u16(0, WEB1)).result == 0
    assert flags(old, WEB1) & PAUSED
    for _ in range(2):
        assert old.ask(UNPAUSE, u16(0, WEB1)).result == 0
    assert not flags(old, WEB1) & PAUSED


def test_a_domain_without_registers_stays_paused(old: OldXen) -> None:
    assert old.ask(UNPAUSE, u16(0, old.create())).result == -errno.EINVAL


def test_a_destroyed_domain_stays_while_its_memory_is_mapped(old: OldXen) -> None:
    window = old.link.map_frames(BUILD, array("Q", old.owned(BUILD)[:1]))
    for _ in range(2):
        assert old.ask(DESTROY, u16(0, BUILD)).result == 0
    assert flags(old, BUILD) & DYING
    window.close()
    assert old.ask(GETDOMAININFO, u16(0, BUILD)).result == -errno.ESRCH


@pytest.mark.parametrize("command", [PAUSE, UNPAUSE, DESTROY])
def test_what_a_domain_cannot_do_to_itself(old: OldXen, command: int) -> None:
    assert old.ask(command, u16(0, 0)).result == -errno.EINVAL


@pytest.mark.parametrize(
    "command", [PAUSE, UNPAUSE, DESTROY, MAX_VCPUS, MAXMEM, HANDLE, DEBUGGING, IRQ_PERMISSION]
)
def test_unknown_domains(old: OldXen, command: int) -> None:
    """DOMID_SELF is one, too."""
    for domid in (ABSENT, SELF):
        assert old.ask(command, u16(0, domid)).result == -errno.ESRCH


def test_vcpus_are_made_before_the_first_has_registers(old: OldXen) -> None:
    domid = old.create()
    assert old.ask(MAX_VCPUS, u16(0, ABSENT), u32(4, 33)).result == -errno.EINVAL
    assert old.ask(MAX_VCPUS, u16(0, domid), u32(4, 4)).result == 0
    assert old.ask(MAX_VCPUS, u16(0, domid), u32(4, 3)).result == -errno.EINVAL
    assert old.ask(MAX_VCPUS, u16(0, domid), u32(4, 32)).result == 0
    made = old.ask(GETDOMAININFO, u16(0, domid))
    assert [made.number(at, 4) for at in (40, 44)] == [1, 31]
    assert old.ask(MAX_VCPUS, u16(0, WEB1), u32(4, 4)).result == -errno.EINVAL


def test_a_limit_below_what_a_domain_has_is_refused(old: OldXen) -> None:
    assert old.ask(MAXMEM, u16(0, WEB1), u64(8, 4 * 16_383)).result == -errno.EINVAL
    assert old.ask(MAXMEM, u16(0, WEB1), u64(8, 4 * 20_000 + 3)).result == 0
    assert old.ask(GETDOMAININFO, u16(0, WEB1)).number(16, 8) == 20_000


def test_a_handle_and_debugging(old: OldXen) -> None:
    handle = bytes(range(16))
    assert old.ask(HANDLE, u16(0, WEB1), *(u8(2 + at, byte) for at, byte in enumerate(handle))).result == 0
    assert old.ask(GETDOMAININFO, u16(0, WEB1)).body[52:68] == handle
    assert old.ask(DEBUGGING, u16(0, WEB1), u8(2, 1)).result == 0
    assert old.xen.domains[WEB1].debugged


def test_permissions(old: OldXen) -> None:
    assert old.ask(IRQ_PERMISSION, u16(0, WEB1), u8(2, 9), u8(3, 1)).result == 0
    last = 2**64 - 1
    assert old.ask(IOMEM_PERMISSION, u16(0, WEB1), u64(8, last), u64(16, 1)).result == 0
    assert old.ask(IOMEM_PERMISSION, u16(0, ABSENT), u64(8, last), u64(16, 2)).result == -errno.EINVAL
    assert old.ask(IOMEM_PERMISSION, u16(0, ABSENT), u64(8, 1), u64(16, 0)).result == -errno.EINVAL
    assert old.ask(IOMEM_PERMISSION, u16(0, ABSENT), u64(8, 1), u64(16, 1)).result == -errno.ESRCH


def test_ports_of_x86(old_of: Any) -> None:
    old = old_of("sim:xen-3.0")
    assert old.ask(IOPORT_PERMISSION, u16(0, WEB1), u32(4, 65_535), u32(8, 1)).result == 0
    assert old.ask(IOPORT_PERMISSION, u16(0, ABSENT), u32(4, 65_535), u32(8, 2)).result == -errno.EINVAL
    assert old.ask(IOPORT_PERMISSION, u16(0, ABSENT), u32(4, 0), u32(8, 1)).result == -errno.ESRCH


def test_the_operations_of_a_management_stack_are_there() -> None:
    assert {"dom0_op.getmemlist2", "dom0_op.createdomain", "dom0_op.getvcpucontext"} <= operations()
