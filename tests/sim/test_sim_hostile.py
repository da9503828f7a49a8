# SPDX-License-Identifier: MIT
"""Numbers that no honest program gives: Xen's errors, and no more work than there is something to do."""

from __future__ import annotations

import errno
import struct
from contextlib import suppress
from typing import Any

import hostile
import pytest
from dom0_op_bytes import OldXen

import pyxc
from pyxc import errors
from pyxc.abi import domctl, domctl_paging, domctl_permissions, domctl_tsc, memory, sysctl
from pyxc.abi.domctl_create import CreateFlag
from pyxc.abi.domctl_tsc import TscMode
from pyxc.abi.memory import MapSpace, MemFlag
from pyxc.sim.model.machine import GUEST_FRAMES

PV, HVM = 1, 2
LAST = 2**64 - 1
PVH = {"flags": int(CreateFlag.HVM | CreateFlag.HAP), "arch.emulation_flags": 1}


def pvh(client: Any) -> int:
    """The id of a new translated domain without limits."""
    fields = {"max_vcpus": 1, "max_grant_frames": 4, "max_maptrack_frames": 4, "grant_opts": 1}
    domid = client.call(domctl.CREATEDOMAIN, 0x7FF5, **fields, **PVH)["domid"]
    client.call(domctl.MAX_VCPUS, domid, max=1)
    client.call(domctl.MAX_MEM, domid, max_memkb=2**40)
    client.xen.domains[domid].paging_pages = 1 << 20
    return int(domid)


def extents(client: Any, operation: Any, domid: int, frames: list[int], order: int = 0, **fields: Any) -> int:
    data = client.buffer(struct.pack(f"<{len(frames)}Q", *frames))
    fields |= {"extent_start": data.address, "nr_extents": len(frames), "extent_order": order}
    return int(client.call(operation, domid, **fields).result)


@pytest.mark.parametrize("release", [(4, 4), (4, 7), (4, 17)])
def test_time_is_counted_in_numbers_that_wrap(client_of: Any, release: tuple[int, int]) -> None:
    client = client_of(release)
    nested, old = ("info.", True) if release < (4, 6) else ("", False)
    given = {"tsc_mode": int(TscMode.ALWAYS_EMULATE), "incarnation": 2**32 - 1}
    for elapsed, told in ((2**63 + 5, 0), (2**64 - 10**9, 0), (2**63 - 10**12, 2**63 - 10**12)):
        fields = {f"{nested}{name}": value for name, value in {**given, "elapsed_nsec": elapsed}.items()}
        assert client.call(domctl_tsc.SETTSCINFO, PV, **fields).result == 0
        layout = client.xen.layout(domctl_tsc.GUEST_TSC_INFO_STRUCT) if old else None
        buffer = client.buffer(layout.size if layout else 1)
        answer = client.call(domctl_tsc.GETTSCINFO, PV, **({"out_info": buffer.address} if old else {}))
        assert answer.result == 0
        info = layout.unpack(buffer.view) if layout else answer.fields
        assert info["incarnation"] == 0
        assert 0 <= info["elapsed_nsec"] - told < 10**6


def test_the_m2p_takes_any_number_for_a_pfn(client: Any) -> None:
    client.call(domctl.MAX_MEM, PV, max_memkb=2**40)
    data = client.buffer(struct.pack("<Q", LAST - 1))
    fields = {"extent_start": data.address, "nr_extents": 1, "extent_order": 2}
    assert client.call(memory.POPULATE_PHYSMAP, PV, **fields).result == 1
    (mfn,) = struct.unpack_from("<Q", data.view)
    assert [client.xen.machine.pfn_of(mfn + place) for place in range(4)] == [LAST - 1, LAST, 0, 1]


@pytest.mark.parametrize("gfn", [LAST, LAST - 3, 1 << 63, GUEST_FRAMES, GUEST_FRAMES - 3])
@pytest.mark.parametrize("flags", [0, int(MemFlag.POPULATE_ON_DEMAND)])
def test_a_translated_guest_ends_where_its_page_tables_do(client: Any, gfn: int, flags: int) -> None:
    domid = pvh(client)
    assert extents(client, memory.POPULATE_PHYSMAP, domid, [gfn], order=2, mem_flags=flags) == 0
    assert extents(client, memory.POPULATE_PHYSMAP, domid, [GUEST_FRAMES - 4], order=2, mem_flags=flags) == 1
    assert client.call(memory.MAXIMUM_GPFN, domid).result < 0, "of 36 bits, through an int"
    assert client.xen.domains[domid].highest_gfn == GUEST_FRAMES - 1


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"space": int(MapSpace.SHARED_INFO), "gpfn": LAST}, -errno.EINVAL),
        ({"space": int(MapSpace.SHARED_INFO), "gpfn": GUEST_FRAMES}, -errno.ENOENT),
        ({"space": int(MapSpace.GRANT_TABLE), "idx": LAST, "gpfn": 5}, -errno.EINVAL),
        ({"space": int(MapSpace.GMFN_RANGE), "idx": 0x100, "gpfn": LAST - 1, "size": 9}, -errno.EOVERFLOW),
        ({"space": int(MapSpace.GMFN_RANGE), "idx": 0x100, "gpfn": 0xF0000, "size": 3}, 0),
        ({"space": int(MapSpace.GMFN_RANGE), "idx": 0x100, "gpfn": 0xF0000, "size": 0}, 0),
    ],
)
def test_where_a_page_can_be_put(client: Any, fields: dict[str, int], result: int) -> None:
    truth = client.xen.domains[HVM]
    moved = [truth.p2m[0x100 + place] for place in range(fields.get("size", 0) if result == 0 else 0)]
    assert client.call(memory.ADD_TO_PHYSMAP, HVM, **fields).result == result
    assert [truth.p2m.get(0xF0000 + place) for place in range(len(moved))] == moved
    assert not any(0x100 + place in truth.p2m for place in range(len(moved)))


def test_a_dying_domain_has_no_places_and_gets_none(client: Any) -> None:
    truth, free = client.xen.domains[HVM], client.xen.machine.heap.free
    held = client.link.map_frames(HVM, client.xen.machine.words.unpack(struct.pack("<2Q", 5, 6)))
    assert client.call(domctl.DESTROYDOMAIN, HVM).result == 0
    assert truth.dying and truth.tot_pages == 2
    freed = client.xen.machine.heap.free
    for space in (MapSpace.SHARED_INFO, MapSpace.GRANT_TABLE, MapSpace.GMFN):
        for gfn in (5, 6, 7):
            fields = {"space": int(space), "idx": 0, "gpfn": gfn}
            assert client.call(memory.ADD_TO_PHYSMAP, HVM, **fields).result == -errno.ENOMEM
    assert extents(client, memory.POPULATE_PHYSMAP, HVM, [9], mem_flags=1 << 16) == 0
    assert extents(client, memory.DECREASE_RESERVATION, HVM, [5]) == 0
    assert (truth.tot_pages, client.xen.machine.heap.free) == (2, freed)
    held.close()
    assert client.call(domctl.GETDOMAININFO, PV).result == 0
    assert HVM not in client.xen.domains and client.xen.machine.heap.free > free + 32000


def test_a_page_that_gives_way_while_it_is_mapped_is_freed_later(client: Any) -> None:
    truth, machine = client.xen.domains[HVM], client.xen.machine
    mfn, owned, free = truth.p2m[5], truth.tot_pages, machine.heap.free
    held = client.link.map_frames(HVM, machine.words.unpack(struct.pack("<Q", 5)))
    assert extents(client, memory.DECREASE_RESERVATION, HVM, [5]) == 1
    assert (machine.owned_by(mfn, HVM), truth.tot_pages, machine.heap.free) == (True, owned, free)
    held.close()
    assert client.call(domctl.GETDOMAININFO, HVM)["tot_pages"] == owned - 1
    assert (machine.owned_by(mfn, HVM), machine.heap.free) == (False, free + 1)


def test_memory_on_demand_is_in_ranges(client: Any) -> None:
    domid = pvh(client)
    frames = [place << 18 for place in range(8192)]
    on_demand = {"order": 18, "mem_flags": int(MemFlag.POPULATE_ON_DEMAND)}
    assert extents(client, memory.POPULATE_PHYSMAP, domid, frames, **on_demand) == 8192
    truth = client.xen.domains[domid]
    assert truth.pod_gfns.runs == [range(8192 << 18)]
    assert extents(client, memory.DECREASE_RESERVATION, domid, [0, 1 << 18], order=18) == 2
    assert truth.pod_gfns.runs == [range(2 << 18, 8192 << 18)]
    assert client.call(memory.SET_POD_TARGET, domid, target_pages=100)["pod_cache_pages"] == 100
    assert extents(client, memory.POPULATE_PHYSMAP, domid, [2 << 18]) == 1
    assert extents(client, memory.POPULATE_PHYSMAP, domid, [2 << 18], **on_demand) == 0, "there is memory"


def test_all_memory_of_devices_is_mapped_in_ranges(client_of: Any) -> None:
    """Before 4.7 all at once, since then 64 frames."""
    for release, done in (((4, 4), 0), ((4, 7), 64)):
        client = client_of(release)
        client.xen.domains[0].hardware.io_memory.add(range(1 << 28))
        client.xen.domains[HVM].hardware.io_memory.add(range(1 << 28))
        fields = {"first_gfn": 0x1000, "first_mfn": 0, "nr_mfns": 1 << 28, "add_mapping": 1}
        assert client.call(domctl_permissions.MEMORY_MAPPING, HVM, **fields).result == done
        mapped = client.xen.domains[HVM].mmio.runs()
        assert mapped == [(range(0x1000, 0x1000 + (done or 1 << 28)), 0)]
        fields |= {"add_mapping": 0, "nr_mfns": 64}
        assert client.call(domctl_permissions.MEMORY_MAPPING, HVM, **fields).result == 0
        assert client.call(domctl_permissions.MEMORY_MAPPING, HVM, **fields).result == -errno.EINVAL


def test_what_is_to_be_written_beyond_the_buffer_is_not_made(client: Any) -> None:
    room = client.buffer(4096)
    bits = {"nodemap.bitmap": room.address, "nodemap.nr_bits": 2**32 - 1}
    assert client.call(domctl.GETNODEAFFINITY, PV, **bits).result == -errno.EFAULT
    assert client.call(domctl_paging.SHADOW_OP_ENABLE_LOGDIRTY, HVM).result == 0
    client.xen.domains[HVM].dirty = {0, 9, 2**35}
    pages = {"dirty_bitmap": room.address, "pages": LAST}
    assert client.call(domctl_paging.SHADOW_OP_PEEK, HVM, **pages).result == -errno.EFAULT
    answer = client.call(domctl_paging.SHADOW_OP_CLEAN, HVM, **{**pages, "pages": 8 * 4096})
    assert (answer.result, answer["stats.dirty_count"], bytes(room.view[:4])) == (0, 3, b"\x01\x02\0\0")


def test_no_address_has_so_many_bits(client: Any) -> None:
    everything = client.call(sysctl.AVAILHEAP, node=-1)["avail_bytes"]
    for least, most, found in ((0, 2**32 - 1, everything), (2**32 - 1, 0, 0), (2**32 - 1, 2**32 - 1, 0)):
        fields = {"node": -1, "min_bitwidth": least, "max_bitwidth": most}
        assert client.call(sysctl.AVAILHEAP, **fields)["avail_bytes"] == found


def test_any_number_of_keys_is_pressed_as_far_as_they_can_be_read(client: Any) -> None:
    ring, room = client.buffer(20000), 1 << 20
    keys = client.buffer(b"q" * (room - 1) + b"m")
    assert client.call(sysctl.DEBUG_KEYS, keys=keys.address, nr_keys=2**32 - 1).result == -errno.EFAULT
    answer = client.call(sysctl.READCONSOLE, buffer=ring.address, count=16384)
    text = bytes(ring.view[: answer["count"]]).decode()
    assert answer["count"] == 16384
    assert text.splitlines()[-2:] == [
        "(XEN) 'm' pressed -> memory info",
        f"(XEN) Physical memory: {client.xen.machine.frames} pages, {client.xen.machine.heap.free} free",
    ]
    assert text.count("'q' pressed") > 10


def test_a_list_of_gigabytes_is_never_there_as_a_whole() -> None:
    old = OldXen("sim:ppc64-64g")
    pieces = list(old.xen.machine.list_of(4, 10, 2**64))
    assert sum(map(len, pieces)) == 8 * ((64 << 18) - 10)
    assert max(map(len, pieces)) <= 8 << 16
    old.close()


@pytest.mark.parametrize("most", [0, 1, 1 << 40, 1 << 63, LAST])
def test_what_a_guest_says_that_it_has_wraps_as_a_long_does(client: Any, most: int) -> None:
    hostile.publish(client.xen, PV, max_pfn=most)
    with pyxc.connect(client.xen.connect()) as xen:
        memory = xen.domains[PV].memory
        if 1 < most <= 1 << 40:
            assert memory.maximum_gpfn() == most - 1
        else:
            with suppress(errors.Error):
                assert memory.maximum_gpfn() == 0
