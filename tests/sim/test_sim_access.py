# SPDX-License-Identifier: MIT
"""Handles, versions, ids, commands: what is checked, and in which order."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

import pytest

from pyxc import sim
from pyxc.abi import domctl, hvm, memory, sched, sysctl, version
from pyxc.abi.multicall import ENTRY_STRUCT
from pyxc.abi.operation import MULTICALL, Operation
from pyxc.sim import Hypervisor

READERS = [
    sysctl.PHYSINFO,
    domctl.GETDOMAININFO,
    version.EXTRAVERSION,
    memory.CURRENT_RESERVATION,
    hvm.GET_PARAM,
    sched.REMOTE_SHUTDOWN,
]


@pytest.mark.parametrize("operation", READERS, ids=lambda operation: operation.full_name)
def test_a_structure_must_lie_in_registered_memory(client: Any, operation: Operation) -> None:
    size = operation.at(client.interface).size
    arena = client.buffer(bytes(size))
    inside, end = arena.address, arena.address + arena.size
    swapped = int.from_bytes(inside.to_bytes(8, "little"), "big")
    sign_extended = inside | 0xFFFFFFFF_00000000
    for address in (0, 0x10, end, end - size + 1, inside - 1, swapped, sign_extended):
        assert client.raw(operation, address) == -errno.EFAULT


def test_memory_that_was_given_back_is_out_of_reach(client: Any) -> None:
    arena = client.link.pool.take(4096)
    address = arena.address
    assert client.raw(version.GUEST_HANDLE, address) == 0
    arena.release()
    assert client.raw(version.GUEST_HANDLE, address) == -errno.EFAULT


def test_memory_of_one_client_is_out_of_reach_for_another(client: Any) -> None:
    other = client.xen.connect()
    assert client.raw(version.GUEST_HANDLE, other.pool.take(4096).address) == -errno.EFAULT
    other.close()


def test_a_buffer_that_is_too_short_faults(any_client: Any) -> None:
    size = domctl.GETDOMAININFO_STRUCT.at(any_client.interface).size
    arena = any_client.buffer(4096)
    almost = arena.address + arena.size - 4 * size + 1
    answer = any_client.call(sysctl.GETDOMAININFOLIST, first_domain=0, max_domains=4, buffer=almost)
    assert answer.result == -errno.EFAULT


def test_the_version_is_checked_before_the_domain_and_the_domain_before_the_command(any_client: Any) -> None:
    layout = domctl.PAUSEDOMAIN.at(any_client.interface)
    good = any_client.interface.domctl

    def ask(cmd: int, interface_version: int, domid: int) -> int:
        fields = {"cmd": cmd, "interface_version": interface_version, "domid": domid}
        return int(any_client.raw(domctl.PAUSEDOMAIN, any_client.buffer(layout.pack(fields)).address))

    assert ask(9999, good + 1, 0x7000) == -errno.EACCES
    domain_first = any_client.xen.profile.since(4, 3)
    assert ask(9999, good, 0x7000) == (-errno.ESRCH if domain_first else -errno.ENOSYS)
    assert ask(9999, good, 1) == -errno.ENOSYS


def test_unknown_hypercalls_and_commands(any_client: Any) -> None:
    assert any_client.link.hypercall(55) == -errno.ENOSYS
    assert any_client.link.hypercall(version.VERSION.family.hypercall, 99) == -errno.ENOSYS
    layout = sysctl.SCHED_ID.at(any_client.interface)
    unknown = layout.pack({"cmd": 999, "interface_version": any_client.interface.sysctl})
    assert any_client.raw(sysctl.SCHED_ID, any_client.buffer(unknown).address) == -errno.ENOSYS


def test_an_operation_of_other_releases_is_unknown(client_of: Any) -> None:
    new, old = client_of((4, 20)), client_of((4, 10))
    layout = domctl.GETMEMLIST.at(old.interface)
    fields = {"cmd": domctl.GETMEMLIST.command, "interface_version": new.interface.domctl, "domid": 1}
    assert new.raw(domctl.GETMEMLIST, new.buffer(layout.pack(fields)).address) == -errno.ENOSYS


def entry(client: Any, number: int, *arguments: int) -> bytes:
    layout = ENTRY_STRUCT.at(client.interface)
    return bytes(layout.pack({"op": number, "args": (*arguments, *[0] * (6 - len(arguments)))}))


def test_each_entry_of_a_multicall_has_its_own_result(client: Any) -> None:
    layout = ENTRY_STRUCT.at(client.interface)
    domid = client.buffer(struct.pack("<H6x", 0))
    entries = client.buffer(
        entry(client, 17, 0)
        + entry(client, 55)
        + entry(client, memory.MAXIMUM_RESERVATION.family.hypercall, 4, domid.address)
        + entry(client, MULTICALL, domid.address, 1)
    )
    assert client.link.hypercall(MULTICALL, entries.address, 4) == 0
    results = [layout.unpack(entries.view, 64 * index)["result"] for index in range(4)]
    assert results == [4 << 16 | 17, -errno.ENOSYS, 2**32 - 1, -errno.EINVAL]


def test_a_plain_result_travels_through_an_int(client: Any) -> None:
    domid = client.buffer(struct.pack("<H6x", 0))
    assert client.raw(memory.MAXIMUM_RESERVATION, domid.address) == -1


def test_a_multicall_stops_where_its_memory_ends(client: Any) -> None:
    arena = client.buffer(entry(client, 17, 0) * 64)
    assert client.link.hypercall(MULTICALL, arena.address, 65) == -errno.EFAULT
    assert ENTRY_STRUCT.at(client.interface).unpack(arena.view)["result"] == 4 << 16 | 17


def test_targets() -> None:
    assert sim.connect("sim:").hypervisor.profile.xen == (4, 17)
    with pytest.raises(ValueError, match=r"sim:xen-4\.10.*sim:xen-4\.22"):
        sim.connect("sim:xen-1.0")
    assert repr(sim.connect("sim:xen-4.20")) == "<SimLink sim:xen-4.20>"


def test_a_closed_link_says_so() -> None:
    link = sim.connect()
    link.close()
    with pytest.raises(ValueError, match="closed"):
        link.hypercall(17)


def test_a_link_does_not_survive_a_fork() -> None:
    link = sim.connect()
    child = os.fork()
    if child == 0:
        try:
            link.hypercall(17)
        except RuntimeError as error:
            os._exit(0 if "fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert link.hypercall(17) == 4 << 16 | 17


def test_a_host_without_guests() -> None:
    assert list(Hypervisor(sim.named("sim:xen-4.17"), with_guests=False).domains) == [0]


def test_two_clients_see_one_host(client: Any) -> None:
    other = client.xen.connect()
    client.call(domctl.PAUSEDOMAIN, 1)
    assert other.hypervisor.domains[1].pauses == 1
    other.close()


def test_the_operations_are_told_by_name() -> None:
    assert {"domctl.pausedomain", "sysctl.readconsole", "sysctl.readconsole_clear"} <= sim.operations()
