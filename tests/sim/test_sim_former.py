# SPDX-License-Identifier: MIT
"""What releases before 4.10 did otherwise, as their sources say: there is no recording of them."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from pyxc.abi import domctl, event_channel, grant_table, hvm, memory, sched, sysctl
from pyxc.abi.arch import x86
from pyxc.abi.domctl import DomainFlag, PageType
from pyxc.abi.domctl_create import CreateFlag
from pyxc.abi.domid import DOMID_ANY, DOMID_INVALID, DOMID_SELF

ABSENT = 0x7000


def created(client: Any, **fields: Any) -> Any:
    return client.call(domctl.CREATEDOMAIN, DOMID_ANY, handle=bytes(range(16)), **fields)


def flags(client: Any, domid: int) -> DomainFlag:
    return DomainFlag(client.call(domctl.GETDOMAININFO, domid)["flags"] & 0x7F)


def write_context(client: Any, **fields: Any) -> int:
    """setvcpucontext on web1's first vcpu, with some fields changed."""
    layout = x86.VCPU_GUEST_CONTEXT_STRUCT.at(client.interface)
    arena = client.buffer(layout.size)
    assert client.call(domctl.GETVCPUCONTEXT, 1, vcpu=0, ctxt=arena.address).result == 0
    arena.view[: layout.size] = layout.pack({**layout.unpack(arena.view), **fields})
    return int(client.call(domctl.SETVCPUCONTEXT, 1, vcpu=0, ctxt=arena.address).result)


def test_a_domain_was_paused_or_not_before_4_5(client_of: Any) -> None:
    client = client_of((4, 4))
    for operation in (domctl.PAUSEDOMAIN, domctl.PAUSEDOMAIN, domctl.UNPAUSEDOMAIN, domctl.UNPAUSEDOMAIN):
        assert client.call(operation, 1).result == 0
    assert not flags(client, 1) & DomainFlag.PAUSED
    assert client_of((4, 7)).call(domctl.UNPAUSEDOMAIN, 1).result == -errno.EINVAL


@pytest.mark.parametrize(
    ("release", "kb", "result", "pages"),
    [
        ((3, 4), 16, -errno.EINVAL, 16_640),
        ((4, 1), 16, 0, 4),
        ((4, 4), (2**32 + 7) * 4, 0, 7),
        ((4, 7), (2**32 + 7) * 4, 0, 2**32 - 1),
    ],
)
def test_limits_of_memory(client_of: Any, release: tuple[int, int], kb: int, result: int, pages: int) -> None:
    client = client_of(release)
    assert client.call(domctl.MAX_MEM, 1, max_memkb=kb).result == result
    assert client.call(domctl.GETDOMAININFO, 1)["max_pages"] == pages


def test_the_number_of_vcpus_could_grow_to_32_before_4_0(client_of: Any) -> None:
    client = client_of((3, 4))
    domid = created(client)["domid"]
    results = [client.call(domctl.MAX_VCPUS, domid, max=count).result for count in (2, 4, 3, 33, 32)]
    assert results == [0, 0, -errno.EINVAL, -errno.EINVAL, 0]
    assert client.call(domctl.GETVCPUINFO, domid, vcpu=31).result == 0
    assert client.call(domctl.GETVCPUINFO, 1, vcpu=2).result == -errno.ESRCH
    assert client.call(domctl.GETVCPUINFO, 1, vcpu=32).result == -errno.EINVAL


def test_the_number_of_vcpus_was_set_once_from_4_0_to_4_11(client_of: Any) -> None:
    client = client_of((4, 1))
    domid = created(client)["domid"]
    results = [client.call(domctl.MAX_VCPUS, domid, max=count).result for count in (2, 4, 1, 2)]
    assert results == [0, -errno.EBUSY, -errno.EINVAL, 0]
    assert client.call(domctl.GETVCPUINFO, domid, vcpu=2).result == -errno.EINVAL


def test_without_a_vcpu_the_highest_id_was_what_it_happened_to_be_before_4_5(client_of: Any) -> None:
    client = client_of((4, 4))
    for domid in (2, 3):
        client.call(domctl.DESTROYDOMAIN, domid)
    domid = created(client)["domid"]
    layout = domctl.GETDOMAININFO_STRUCT.at(client.interface)
    arena = client.buffer(2 * layout.size)
    client.call(sysctl.GETDOMAININFOLIST, first_domain=1, max_domains=2, buffer=arena.address)
    web1, fresh = (layout.unpack(arena.view, at) for at in (0, layout.size))
    assert (web1["max_vcpu_id"], fresh["domain"], fresh["max_vcpu_id"]) == (1, domid, 1)
    assert client.call(domctl.GETDOMAININFO, domid, max_vcpu_id=77)["max_vcpu_id"] == 77


def test_an_id_for_a_question_about_a_domain(client_of: Any) -> None:
    asked = {release: client_of(release) for release in ((3, 1), (3, 4), (4, 7))}
    assert asked[3, 1].call(domctl.GETDOMAININFO, DOMID_SELF)["domid"] == 0
    for client in asked.values():
        assert client.call(domctl.GETDOMAININFO, DOMID_INVALID).result == -errno.ESRCH
        assert client.call(domctl.GETDOMAININFO, ABSENT).result == -errno.ESRCH
    assert asked[3, 4].call(domctl.GETDOMAININFO, DOMID_SELF).result == -errno.ESRCH


@pytest.mark.parametrize(
    ("release", "fields", "result"),
    [
        ((3, 1), {"flags": int(CreateFlag.HVM | CreateFlag.HAP)}, -errno.EINVAL),
        ((3, 4), {"flags": int(CreateFlag.HVM | CreateFlag.HAP)}, 0),
        ((3, 4), {"flags": int(CreateFlag.HAP)}, 0),
        ((3, 4), {"flags": int(CreateFlag.OOS_OFF)}, -errno.EINVAL),
        ((4, 4), {"flags": int(CreateFlag.OOS_OFF)}, 0),
        ((4, 7), {"flags": int(CreateFlag.HVM), "arch.emulation_flags": 1}, -errno.EOPNOTSUPP),
        ((4, 7), {"flags": int(CreateFlag.HVM), "arch.emulation_flags": 0x1FF}, 0),
        ((4, 7), {"flags": int(CreateFlag.HVM)}, 0),
        ((4, 10), {"flags": int(CreateFlag.HVM)}, -errno.EOPNOTSUPP),
    ],
)
def test_what_a_domain_could_be(
    client_of: Any, release: tuple[int, int], fields: dict[str, Any], result: int
) -> None:
    assert created(client_of(release), **fields).result == result


def test_the_width_of_a_domain(client_of: Any) -> None:
    for release, native in (((3, 1), 0), ((4, 7), 0), ((4, 10), -errno.EINVAL)):
        client = client_of(release)
        domid = created(client)["domid"]
        results = [client.call(domctl.SET_ADDRESS_SIZE, domid, size=size).result for size in (32, 64, 16)]
        assert results == [0, native, -errno.EINVAL]
    assert client_of((4, 7)).call(domctl.SET_ADDRESS_SIZE, 1, size=64).result == -errno.EACCES
    assert client_of((4, 10)).call(domctl.SET_ADDRESS_SIZE, 1, size=64).result == 0
    assert client_of((4, 10)).call(domctl.SET_ADDRESS_SIZE, 2, size=32).result == -errno.EACCES


def test_one_map_of_affinity_before_4_5(client_of: Any) -> None:
    client = client_of((3, 4))
    arena = client.buffer(8)
    asked = {"vcpu": 0, "cpumap.bitmap": arena.address, "cpumap.nr_bits": 64}
    assert client.call(domctl.GETVCPUAFFINITY, 1, **asked).result == 0
    assert bytes(arena.view[:8]) == b"\xff" * 4 + bytes(4), "all 32 cpus that it was built for"
    arena.view[0:4] = b"\x0a\0\0\0"
    assert client.call(domctl.SETVCPUAFFINITY, 1, **asked).result == 0
    assert client.xen.domains[1].live_vcpus[0].hard == 0b1010, "a cpu that is not there stays in the set"
    arena.view[0] = 0b100
    assert client.call(domctl.SETVCPUAFFINITY, 1, **asked).result == -errno.EINVAL
    assert client.call(domctl.SETVCPUAFFINITY, 1, **asked | {"vcpu": 40}).result == -errno.EINVAL


def test_a_map_that_cannot_be_written_was_forgotten_before_4_1(client_of: Any) -> None:
    for release, result in (((3, 4), 0), ((4, 1), -errno.EFAULT)):
        fields = {"vcpu": 0, "cpumap.bitmap": 8, "cpumap.nr_bits": 64}
        assert client_of(release).call(domctl.GETVCPUAFFINITY, 1, **fields).result == result


@pytest.mark.parametrize(
    ("release", "field", "result"),
    [
        ((4, 1), "user_regs.rip", 0),
        ((4, 4), "user_regs.rip", -errno.EINVAL),
        ((4, 7), "kernel_sp", 0),
        ((4, 10), "kernel_sp", -errno.EINVAL),
    ],
)
def test_which_addresses_had_to_make_sense(
    client_of: Any, release: tuple[int, int], field: str, result: int
) -> None:
    assert write_context(client_of(release), **{field: 1 << 60}) == result


def test_changes_of_page_tables_were_ignored_before_4_2(client_of: Any) -> None:
    client = client_of((4, 1))
    before = client.xen.domains[1].live_vcpus[0].context
    assert write_context(client, ctrlreg=(0,) * 8) == 0
    layout = x86.VCPU_GUEST_CONTEXT_STRUCT.at(client.interface)
    kept = layout.unpack(client.xen.domains[1].live_vcpus[0].context)
    assert kept["ctrlreg"] == layout.unpack(before)["ctrlreg"]
    assert write_context(client_of((4, 4)), ctrlreg=(0,) * 8) == -errno.EOPNOTSUPP


def test_registers_of_the_calling_vcpu_and_of_none(client_of: Any) -> None:
    client = client_of((3, 4))
    size = x86.VCPU_GUEST_CONTEXT_STRUCT.at(client.interface).size
    arena = client.buffer(size)
    assert client.call(domctl.GETVCPUCONTEXT, 0, vcpu=0, ctxt=arena.address).result == 0
    assert client.call(domctl.GETVCPUCONTEXT, 1, vcpu=5, ctxt=arena.address).result == -errno.ESRCH


def types_of(client: Any, domid: int, frames: list[int]) -> list[int]:
    arena = client.buffer(struct.pack(f"<{len(frames)}I", *frames))
    answer = client.call(domctl.GETPAGEFRAMEINFO2, domid, num=len(frames), array=arena.address)
    assert answer.result == 0
    return list(struct.unpack_from(f"<{len(frames)}I", arena.view))


def test_types_were_put_over_32_bit_frames(client_of: Any) -> None:
    client = client_of((3, 4))
    machine = client.xen.machine
    root = next(mfn for mfn, kind in machine.types.items() if machine.owned_by(mfn, 1) and kind >> 31)
    stranger = next(iter(machine.frames_of(3).runs))[-1]
    assert types_of(client, 1, [root, stranger]) == [
        root | PageType.L4TAB | domctl.PAGE_PINNED, stranger | PageType.XTAB
    ]  # fmt: skip
    assert client.call(domctl.GETPAGEFRAMEINFO2, 1, num=1025, array=8).result == -errno.E2BIG


def test_types_were_of_machine_frames_before_4_0(client_of: Any) -> None:
    old, new = client_of((3, 4)), client_of((4, 1))
    gfn = 0x100
    assert types_of(old, 2, [gfn, old.xen.domains[2].p2m[gfn]])[0] & PageType.XTAB == PageType.XTAB
    assert types_of(old, 2, [old.xen.domains[2].p2m[gfn]])[0] >> 28 == 0
    assert types_of(new, 2, [gfn]) == [gfn]


def test_getmemlist_looked_for_its_domain_itself_before_4_3(client_of: Any) -> None:
    for release, result in (((3, 1), -errno.EINVAL), ((4, 1), -errno.EINVAL), ((4, 4), -errno.ESRCH)):
        assert client_of(release).call(domctl.GETMEMLIST, ABSENT, max_pfns=1, buffer=8).result == result


def test_getmemlist_had_no_limit_before_4_4(client_of: Any) -> None:
    for release, result in (((4, 1), 0), ((4, 4), -errno.EOPNOTSUPP)):
        client = client_of(release)
        arena = client.buffer(8 * 8192)
        asked = {"max_pfns": (1 << 20) + 1, "buffer": arena.address}
        answer = client.call(domctl.GETMEMLIST, 3, **asked)
        assert answer.result == result
        if result == 0:
            assert answer["num_pfns"] == 8192


def test_only_nodes_of_cpus_in_physinfo_before_4_1(client_of: Any) -> None:
    client = client_of((3, 4))
    arena = client.buffer(b"\xff" * 16)
    answer = client.call(sysctl.PHYSINFO, max_cpu_id=3, cpu_to_node=arena.address)
    assert (answer["max_cpu_id"], bytes(arena.view[:16])) == (1, bytes(8) + b"\xff" * 8)
    assert client.call(sysctl.PHYSINFO, max_cpu_id=1, cpu_to_node=8).result == -errno.EFAULT


def test_the_highest_cpu_was_that_of_the_build_in_4_1(client_of: Any) -> None:
    assert client_of((4, 1)).call(sysctl.PHYSINFO)["max_cpu_id"] == 127
    assert client_of((4, 4)).call(sysctl.PHYSINFO)["max_cpu_id"] == 1
    client = client_of((4, 1))
    idle = client.buffer(8 * 256)
    assert client.call(sysctl.GETCPUINFO, max_cpus=256, info=idle.address)["nr_cpus"] == 128


def test_topologyinfo(client_of: Any) -> None:
    client = client_of((4, 4))
    core, socket = client.buffer(16), client.buffer(b"\xff" * 16)
    fields = {"cpu_to_core": core.address, "cpu_to_socket": socket.address}
    assert client.call(sysctl.TOPOLOGYINFO, max_cpu_index=3, **fields)["max_cpu_index"] == 1
    assert struct.unpack_from("<2I", core.view) == (0, 1)
    assert bytes(socket.view[:16]) == bytes(8) + b"\xff" * 8
    assert client.call(sysctl.TOPOLOGYINFO, max_cpu_index=0, cpu_to_node=8).result == -errno.EFAULT


def test_numainfo_in_arrays(client_of: Any) -> None:
    client = client_of((4, 4))
    size, free, far = client.buffer(8), client.buffer(8), client.buffer(4)
    fields = {"node_to_memsize": size.address, "node_to_memfree": free.address}
    answer = client.call(sysctl.NUMAINFO, max_node_index=63, node_to_node_distance=far.address, **fields)
    assert (answer["max_node_index"], struct.unpack_from("<I", far.view)) == (0, (10,))
    assert struct.unpack_from("<Q", size.view) == (client.xen.machine.frames * 4096,)
    assert struct.unpack_from("<Q", free.view) == (client.xen.machine.heap.free * 4096,)


def test_the_index_into_the_console_had_no_effect_before_4_0(client_of: Any) -> None:
    client = client_of((3, 4))
    arena = client.buffer(16384)
    asked = {"buffer": arena.address, "count": 16384}
    first = client.call(sysctl.READCONSOLE, **asked)
    again = client.call(sysctl.READCONSOLE, incremental=1, index=first["index"], **asked)
    assert (again["count"], again["index"]) == (first["count"], first["index"])
    oldest = client_of((3, 1))
    arena = oldest.buffer(16384)
    answer = oldest.call(sysctl.READCONSOLE_CLEAR, buffer=arena.address, count=16384)
    assert bytes(arena.view[: answer["count"]]).startswith(b"(XEN) Xen version 3.1.0")
    assert oldest.call(sysctl.READCONSOLE, buffer=arena.address, count=16384)["count"] == 0


def test_hvm_parameters_that_there_were(client_of: Any) -> None:
    for release, count in (((3, 1), 7), ((3, 4), 17), ((4, 1), 24), ((4, 4), 32), ((4, 7), 37)):
        client = client_of(release)
        assert client.call(hvm.GET_PARAM, 2, index=count - 1).result == 0
        assert client.call(hvm.GET_PARAM, 2, index=count).result == -errno.EINVAL
    ioreq = int(hvm.HvmParam.IOREQ_PFN)
    changed = [client_of((4, 4)).call(hvm.SET_PARAM, 2, index=ioreq, value=value).result for value in (7, 8)]
    assert changed == [0, 0]


def test_a_shutdown_that_did_not_happen_has_no_code_before_4_1(client_of: Any) -> None:
    for release, code in (((3, 4), 0), ((4, 1), 0xFFFF)):
        client = client_of(release)
        assert client.call(domctl.GETDOMAININFO, 2)["flags"] >> 16 == code
        client.call(sched.REMOTE_SHUTDOWN, 2, reason=3)
        assert client.call(domctl.GETDOMAININFO, 2)["flags"] >> 16 == 3


def test_the_grant_table_began_with_four_frames_before_4_10(client_of: Any) -> None:
    for release, size in (((3, 1), (4, 32)), ((4, 7), (4, 32)), ((4, 10), (1, 64))):
        answer = client_of(release).call(grant_table.QUERY_SIZE, 1)
        assert (answer["nr_frames"], answer["max_nr_frames"]) == size


def test_calls_that_every_release_has(client_of: Any) -> None:
    client = client_of((3, 1))
    assert client.call(memory.MAXIMUM_GPFN, 2).result == 0xFEFFF
    assert client.call(memory.MAXIMUM_RESERVATION, 1).result == 16_640
    assert client.call(event_channel.ALLOC_UNBOUND, 1, remote_dom=0).result == 0
