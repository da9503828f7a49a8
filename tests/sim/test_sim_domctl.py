# SPDX-License-Identifier: MIT
"""Domains come, stop, change and go, with the refusals of real Xen."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from pyxc.abi import domctl, domctl_paging, sched, sysctl, sysctl_cpupool
from pyxc.abi.domctl import DomainFlag
from pyxc.abi.domctl_create import CreateFlag
from pyxc.abi.domid import DOMID_ANY, DOMID_INVALID

HANDLE = bytes(range(16))

GUEST_SID = 12
"""The label of guests, where there is a policy."""


def create(client: Any, domid: int = DOMID_ANY, **fields: Any) -> Any:
    usual = {"ssidref": GUEST_SID, "handle": HANDLE, "max_vcpus": 1, "max_evtchn_port": 1023,
             "max_grant_frames": 4, "max_maptrack_frames": 4, "grant_opts": 1}  # fmt: skip
    names = domctl.CREATEDOMAIN.at(client.interface).index
    known = {name: value for name, value in usual.items() if name in names}
    return client.call(domctl.CREATEDOMAIN, domid, **{**known, **fields})


def info(client: Any, domid: int) -> Any:
    return client.call(domctl.GETDOMAININFO, domid)


def flags(client: Any, domid: int) -> DomainFlag:
    return DomainFlag(info(client, domid)["flags"] & 0xFFFF)


def test_a_new_domain_is_paused_and_empty(any_client: Any) -> None:
    answer = create(any_client)
    assert answer.result == 0
    fresh = info(any_client, answer["domid"])
    assert fresh["handle"] == HANDLE
    assert (fresh["tot_pages"], fresh["max_pages"], fresh["nr_online_vcpus"]) == (0, 0, 0)
    assert fresh["max_vcpu_id"] == (0xFFFFFFFF if any_client.xen.profile.since(4, 5) else 0)
    blocked = DomainFlag(0) if any_client.xen.profile.since(3, 3) else DomainFlag.BLOCKED
    assert flags(any_client, answer["domid"]) == DomainFlag.PAUSED | blocked


@pytest.mark.parametrize("release", [(4, 10), (4, 17), (4, 22)])
def test_a_pvh_domain_says_what_it_is(client_of: Any, release: tuple[int, int]) -> None:
    client = client_of(release)
    answer = create(client, flags=int(CreateFlag.HVM | CreateFlag.HAP), **{"arch.emulation_flags": 1})
    assert flags(client, answer["domid"]) == DomainFlag.PAUSED | DomainFlag.HVM_GUEST | DomainFlag.HAP
    assert info(client, answer["domid"])["shared_info_frame"] == 2**64 - 1


@pytest.mark.parametrize("release", [(4, 10), (4, 17), (4, 22)])
def test_which_id_a_new_domain_gets(client_of: Any, release: tuple[int, int]) -> None:
    client = client_of(release)
    occupied = -errno.EINVAL if release < (4, 14) else -errno.EEXIST
    assert create(client)["domid"] == 4
    assert create(client, 3).result == occupied
    assert create(client, 77)["domid"] == 77
    if release >= (4, 22):
        assert create(client, 0).result == -errno.EEXIST
        assert create(client, DOMID_INVALID).result == -errno.EEXIST
    else:
        assert create(client, 0)["domid"] == 5
        assert create(client, DOMID_INVALID)["domid"] == 6


def test_ids_go_up_before_they_are_used_again(client: Any) -> None:
    first = create(client)["domid"]
    client.call(domctl.DESTROYDOMAIN, first)
    assert create(client)["domid"] == first + 1


@pytest.mark.parametrize(("release", "kept"), [((4, 20), False), ((4, 22), True)])
def test_the_id_of_a_domain_that_is_gone_is_free_at_once_up_to_4_20(
    client_of: Any, release: tuple[int, int], kept: bool
) -> None:
    client = client_of(release)
    assert client.call(domctl.DESTROYDOMAIN, 2).result == 0
    assert info(client, 2).result == -errno.ESRCH
    attempts = [create(client, 2).result for _ in range(4)]
    taken = -errno.EEXIST
    assert attempts == ([taken, taken, 0, taken] if kept else [0, taken, taken, taken])


def test_an_id_that_is_kept_is_not_chosen(client_of: Any) -> None:
    client = client_of((4, 22))
    client.xen.last_domid = 1
    client.call(domctl.DESTROYDOMAIN, 2)
    assert create(client)["domid"] == 4


@pytest.mark.parametrize(("release", "again"), [((4, 20), 0), ((4, 22), -errno.EEXIST)])
def test_a_creation_that_is_refused_takes_the_id_along(
    client_of: Any, release: tuple[int, int], again: int
) -> None:
    client = client_of(release)
    assert create(client, 50, max_vcpus=0).result == -errno.EINVAL
    client.xen.clock_ns += 10**9
    assert create(client, 50).result == again
    assert create(client, 51, grant_opts=3).result == -errno.EINVAL, "known after the domain was begun"
    assert create(client, 51).result == 0


def test_the_pool_of_a_new_domain(client_of: Any) -> None:
    client = client_of((4, 17))
    pool = client.call(sysctl_cpupool.CPUPOOL_OP_CREATE, cpupool_id=7, sched_id=int(domctl.Scheduler.CREDIT))
    assert pool.result == 0
    assert create(client, cpupool_id=3).result == -errno.ESRCH
    assert create(client, cpupool_id=7).result == -errno.ENODEV
    client.xen.pools[0].cpus, client.xen.pools[7].cpus = 1, 2
    assert info(client, create(client, cpupool_id=7)["domid"])["cpupool"] == 7


def test_a_domain_for_which_there_is_no_memory(client: Any) -> None:
    client.xen.machine.heap.remove(range(client.xen.machine.frames))
    assert create(client, 50).result == -errno.ENOMEM
    assert sorted(client.xen.domains) == [0, 1, 2, 3]
    assert not client.xen.machine.frames_of(50)


REFUSED = [
    {"flags": 1 << 31},
    {"flags": int(CreateFlag.HAP)},
    {"flags": int(CreateFlag.HVM | CreateFlag.NESTED_VIRT), "arch.emulation_flags": 1},
    {"flags": int(CreateFlag.IOMMU)},
    {"iommu_opts": 1},
    {"max_vcpus": 0},
    {"max_vcpus": 8193},
    {"max_vcpus": 129, "flags": int(CreateFlag.HVM), "arch.emulation_flags": 1},
    {"max_grant_frames": 0},
    {"grant_opts": 0},
    {"grant_opts": 3},
    {"vmtrace_size": 4096},
    {"arch.misc_flags": 2},
    {"grant_opts": 17},
]


@pytest.mark.parametrize("fields", REFUSED, ids=str)
@pytest.mark.parametrize("release", [(4, 17), (4, 22)])
def test_what_a_domain_cannot_be(client_of: Any, release: tuple[int, int], fields: dict[str, Any]) -> None:
    client = client_of(release)
    assert create(client, **fields).result == -errno.EINVAL
    assert sorted(client.xen.domains) == [0, 1, 2, 3]


@pytest.mark.parametrize("release", [(4, 10), (4, 17), (4, 22)])
def test_devices_that_xen_does_not_emulate(client_of: Any, release: tuple[int, int]) -> None:
    client, pvh = client_of(release), int(CreateFlag.HVM | CreateFlag.HAP)
    for fields in ({"arch.emulation_flags": 1}, {"flags": pvh, "arch.emulation_flags": 2}):
        assert create(client, 50, **fields).result == -errno.EOPNOTSUPP
    assert create(client, 50).result == 0, "the id was not lost"


@pytest.mark.parametrize("release", [(4, 14), (4, 17), (4, 20), (4, 22)])
def test_limits_of_grants_were_those_of_the_host_up_to_4_17(client_of: Any, release: tuple[int, int]) -> None:
    client = client_of(release)
    for fields in ({"max_grant_frames": 65}, {"max_maptrack_frames": 1025}):
        assert create(client, **fields).result == (-errno.EINVAL if release < (4, 18) else 0)
    huge = create(client, max_grant_frames=2**31 - 1).result
    assert huge == (-errno.EINVAL if release < (4, 18) else -errno.ENOMEM)


def test_what_4_22_refuses(client_of: Any) -> None:
    """It was built without shadow page tables, and no x86 Xen traps unmapped accesses."""
    client = client_of((4, 22))
    for fields in (
        {"flags": int(CreateFlag.TRAP_UNMAPPED_ACCESSES)},
        {"flags": int(CreateFlag.HVM), "arch.emulation_flags": 1},
        {"altp2m.opts": 1},
        {"altp2m.nr": 1},
    ):
        assert create(client, **fields).result == -errno.EINVAL


def test_every_device_of_an_hvm_domain(client_of: Any) -> None:
    for release, emulation in (((4, 17), 0x3FF), ((4, 20), 0x3FF), ((4, 20), 0x1FF)):
        fields = {"flags": int(CreateFlag.HVM | CreateFlag.HAP), "arch.emulation_flags": emulation}
        assert create(client_of(release), **fields).result == 0


def test_pv_domains_come_back_with_another_flag(client_of: Any) -> None:
    assert create(client_of((4, 17)))["flags"] == CreateFlag.OOS_OFF
    assert create(client_of((4, 10)))["flags"] == 0


def test_asking_for_an_id_that_is_free(client_of: Any) -> None:
    for release in ((4, 10), (4, 17)):
        client = client_of(release)
        create(client, 100)
        assert info(client, 50)["domid"] == 100
        assert info(client, 101).result == -errno.ESRCH
        assert info(client, DOMID_INVALID).result == -errno.EINVAL
    for release in ((4, 20), (4, 22)):
        client = client_of(release)
        create(client, 100)
        assert info(client, 50).result == -errno.ESRCH
        assert info(client, DOMID_INVALID).result == -errno.ESRCH


def test_pauses_nest(client: Any) -> None:
    assert flags(client, 1) == DomainFlag.BLOCKED
    for _ in range(2):
        assert client.call(domctl.PAUSEDOMAIN, 1).result == 0
    client.call(domctl.UNPAUSEDOMAIN, 1)
    assert flags(client, 1) & DomainFlag.PAUSED
    client.call(domctl.UNPAUSEDOMAIN, 1)
    assert not flags(client, 1) & DomainFlag.PAUSED
    assert client.call(domctl.UNPAUSEDOMAIN, 1).result == -errno.EINVAL


def test_pauses_have_a_limit(client: Any) -> None:
    results = [client.call(domctl.PAUSEDOMAIN, 1).result for _ in range(256)]
    assert results == [0] * 255 + [-errno.EOVERFLOW]


@pytest.mark.parametrize(
    "operation", [domctl.PAUSEDOMAIN, domctl.DESTROYDOMAIN, domctl.RESUMEDOMAIN, domctl.MAX_VCPUS]
)
def test_dom0_cannot_do_this_to_itself(any_client: Any, operation: Any) -> None:
    harmless = operation is domctl.RESUMEDOMAIN and not any_client.xen.profile.since(4, 6)
    forbidden = any_client.xen.policy and operation is not domctl.MAX_VCPUS
    refused = -errno.EACCES if forbidden else -errno.EINVAL
    assert any_client.call(operation, 0).result == (0 if harmless else refused)


def test_a_running_domain_stops_when_paused_and_time_passes_otherwise(client: Any) -> None:
    assert flags(client, 2) == DomainFlag.RUNNING | DomainFlag.HVM_GUEST | DomainFlag.HAP
    before = info(client, 2)["cpu_time"]
    assert info(client, 2)["cpu_time"] > before
    client.call(domctl.PAUSEDOMAIN, 2)
    assert not flags(client, 2) & DomainFlag.RUNNING
    assert info(client, 2)["cpu_time"] == info(client, 2)["cpu_time"]


def test_shutdown_keeps_the_first_reason_until_resumed(client: Any) -> None:
    assert client.call(sched.REMOTE_SHUTDOWN, 2, reason=2).result == 0
    client.call(sched.REMOTE_SHUTDOWN, 2, reason=3)
    shut = info(client, 2)["flags"]
    assert shut & DomainFlag.SHUTDOWN and not shut & DomainFlag.RUNNING
    assert shut >> 16 & 0xFF == 2
    client.call(domctl.RESUMEDOMAIN, 2)
    assert flags(client, 2) & (DomainFlag.SHUTDOWN | DomainFlag.RUNNING) == DomainFlag.RUNNING


def test_the_host_is_not_shut_down_by_mistake(client: Any) -> None:
    assert client.call(sched.REMOTE_SHUTDOWN, 0, reason=0).result == -errno.EPERM


def test_destroying_frees_everything(client: Any) -> None:
    free = client.xen.machine.heap.free
    assert client.call(domctl.DESTROYDOMAIN, 1).result == 0
    assert info(client, 1)["domid"] == 2
    assert client.xen.machine.heap.free >= free + 16_384
    assert client.call(domctl.DESTROYDOMAIN, 1).result == -errno.ESRCH


def test_the_vcpu_limit(client_of: Any) -> None:
    client = client_of((4, 17))
    domid = create(client, max_vcpus=2)["domid"]
    assert client.call(domctl.MAX_VCPUS, domid, max=3).result == -errno.EINVAL
    assert client.call(domctl.MAX_VCPUS, domid, max=2).result == 0
    assert client.call(domctl.MAX_VCPUS, domid, max=2).result == 0
    assert info(client, domid)["max_vcpu_id"] == 1


def test_the_vcpu_limit_of_old_releases(client_of: Any) -> None:
    client = client_of((4, 10))
    domid = create(client)["domid"]
    assert client.call(domctl.MAX_VCPUS, domid, max=8193).result == -errno.EINVAL
    assert client.call(domctl.MAX_VCPUS, domid, max=2).result == 0
    assert client.call(domctl.MAX_VCPUS, domid, max=1).result == -errno.EINVAL
    assert client.call(domctl.MAX_VCPUS, domid, max=3).result == -errno.EBUSY


def test_max_mem_may_go_below_what_is_there(client: Any) -> None:
    assert client.call(domctl.MAX_MEM, 1, max_memkb=1024).result == 0
    assert info(client, 1)["max_pages"] == 256
    client.call(domctl.MAX_MEM, 1, max_memkb=2**60)
    assert info(client, 1)["max_pages"] == 2**32 - 1


def test_the_handle_changes(client: Any) -> None:
    assert client.call(domctl.SETDOMAINHANDLE, 3, handle=HANDLE).result == 0
    assert info(client, 3)["handle"] == HANDLE


def test_the_list_of_domains(any_client: Any) -> None:
    layout = domctl.GETDOMAININFO_STRUCT.at(any_client.interface)
    arena = any_client.buffer(10 * layout.size)

    def listed(first: int, most: int) -> list[int]:
        answer = any_client.call(
            sysctl.GETDOMAININFOLIST, first_domain=first, max_domains=most, buffer=arena.address
        )
        records = [layout.unpack(arena.view, index * layout.size) for index in range(answer["num_domains"])]
        return [record["domain"] for record in records]

    assert listed(0, 10) == [0, 1, 2, 3]
    assert listed(0, 2) == [0, 1]
    assert listed(2, 10) == [2, 3]
    assert listed(0, 0) == listed(4, 10) == []


def test_address_sizes(client_of: Any) -> None:
    old, new = client_of((4, 10)), client_of((4, 17))
    assert new.call(domctl.GET_ADDRESS_SIZE, 1)["size"] == 64
    assert new.call(domctl.GET_ADDRESS_SIZE, 2).result == -errno.EOPNOTSUPP
    assert old.call(domctl.GET_ADDRESS_SIZE, 2)["size"] == 64
    assert new.call(domctl.SET_ADDRESS_SIZE, 1, size=64).result == 0
    assert new.call(domctl.SET_ADDRESS_SIZE, 1, size=48).result == -errno.EINVAL
    assert new.call(domctl.SET_ADDRESS_SIZE, 1, size=32).result == -errno.EOPNOTSUPP
    assert old.call(domctl.SET_ADDRESS_SIZE, 1, size=32).result == -errno.EACCES
    domid = create(old)["domid"]
    assert old.call(domctl.SET_ADDRESS_SIZE, domid, size=32).result == 0
    assert old.call(domctl.GET_ADDRESS_SIZE, domid)["size"] == 32


def test_the_paging_pool(client: Any) -> None:
    assert client.call(domctl_paging.SET_PAGING_MEMPOOL_SIZE, 1, size=4096).result == -errno.EOPNOTSUPP
    assert client.call(domctl_paging.GET_PAGING_MEMPOOL_SIZE, 1).result == -errno.EOPNOTSUPP
    assert client.call(domctl_paging.SET_PAGING_MEMPOOL_SIZE, 2, size=4097).result == -errno.EINVAL
    assert client.call(domctl_paging.SET_PAGING_MEMPOOL_SIZE, 2, size=3 << 20).result == 0
    assert client.call(domctl_paging.GET_PAGING_MEMPOOL_SIZE, 2)["size"] == 3 << 20
    assert client.call(domctl_paging.SHADOW_OP_GET_ALLOCATION, 2)["mb"] == 3
    assert client.call(domctl_paging.SHADOW_OP_SET_ALLOCATION, 2, mb=2)["mb"] == 2
    assert client.call(domctl_paging.SHADOW_OP_GET_ALLOCATION, 0).result == -errno.EINVAL
    assert client.call(domctl_paging.SHADOW_OP_GET_ALLOCATION, 2, op=99).result == -errno.EINVAL
