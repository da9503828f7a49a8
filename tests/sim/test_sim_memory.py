# SPDX-License-Identifier: MIT
"""Frames: giving, taking, mapping, and what guests and hypervisor say of them."""

from __future__ import annotations

import errno
import gc
from array import array
from typing import Any

import pytest

from pyxc._core import PAGE_SIZE
from pyxc.abi import domctl, domctl_paging, grant_table, memory
from pyxc.abi.arch import x86
from pyxc.abi.domctl import PAGE_PINNED, PageType
from pyxc.abi.domctl_create import CreateFlag
from pyxc.abi.domid import DOMID_SELF, DOMID_XEN
from pyxc.sim.model.words import Words

ABSENT = 2**64 - 1
WORDS = PAGE_SIZE // 8

words = Words("little").unpack


def mapped(client: Any, domid: int, *frames: int, writable: bool = False) -> Any:
    return client.link.map_frames(domid, array("Q", frames), writable)


def page(client: Any, domid: int, frame: int) -> array[int]:
    with mapped(client, domid, frame) as window:
        return words(window)


def create(client: Any, pages: int, **fields: Any) -> int:
    names = domctl.CREATEDOMAIN.at(client.interface).index
    usual = {"ssidref": 12, "max_vcpus": 1, "grant_opts": 2}
    usual |= {"max_grant_frames": -1, "max_maptrack_frames": -1}
    known = {name: value for name, value in {**usual, **fields}.items() if name in names}
    domid = int(client.call(domctl.CREATEDOMAIN, 0x7FF5, **known)["domid"])
    client.call(domctl.MAX_VCPUS, domid, max=1)
    client.call(domctl.MAX_MEM, domid, max_memkb=4 * pages)
    return domid


def create_pvh(client: Any, pages: int) -> int:
    return create(client, pages, flags=int(CreateFlag.HVM | CreateFlag.HAP), **{"arch.emulation_flags": 1})


def reserve(
    client: Any, operation: Any, domid: int, frames: list[int], order: int = 0
) -> tuple[int, list[int]]:
    """How many extents were done, and the array afterwards."""
    arena = client.buffer(b"".join(frame.to_bytes(8, "little") for frame in frames))
    fields = {"extent_start": arena.address, "nr_extents": len(frames), "extent_order": order}
    done = client.call(operation, domid, **fields).result
    return done, list(words(arena.view[: 8 * len(frames)]))


def tot_pages(client: Any, domid: int) -> int:
    return int(client.call(memory.CURRENT_RESERVATION, domid).result)


def test_populating_a_pv_domain_names_the_frames_and_the_m2p_knows_them(any_client: Any) -> None:
    domid = create(any_client, 16)
    done, mfns = reserve(any_client, memory.POPULATE_PHYSMAP, domid, [5, 9, 10])
    assert done == 3 == tot_pages(any_client, domid)
    m2p = m2p_of(any_client)
    assert [m2p[mfn] for mfn in mfns] == [5, 9, 10]
    with mapped(any_client, domid, *mfns) as window:
        assert not any(bytes(window))


def m2p_of(client: Any) -> array[int]:
    """The whole table, through DOMID_XEN as tools read it."""
    chunks = client.buffer(8 * 4)
    answer = client.call(memory.MACHPHYS_MFN_LIST, max_extents=4, extent_start=chunks.address)
    starts = words(chunks.view[: 8 * answer["nr_extents"]])
    frames = [frame for start in starts for frame in range(start, start + 512)]
    count = client.call(memory.MAXIMUM_RAM_PAGE).result
    with mapped(client, DOMID_XEN, *frames) as window:
        return words(window)[:count]


def test_limits_end_an_operation_early(client: Any) -> None:
    domid = create(client, 10)
    assert reserve(client, memory.POPULATE_PHYSMAP, domid, list(range(16)))[0] == 10
    assert reserve(client, memory.INCREASE_RESERVATION, domid, [0])[0] == 0
    assert client.call(memory.MAXIMUM_RESERVATION, domid).result == 10
    assert reserve(client, memory.POPULATE_PHYSMAP, 0x7000, [1])[0] == 0
    assert reserve(client, memory.POPULATE_PHYSMAP, domid, [1], order=19)[0] == 0
    assert client.call(memory.POPULATE_PHYSMAP, domid, nr_extents=2**27).result == 0


def test_larger_extents_are_aligned_and_the_host_runs_out(client: Any) -> None:
    domid = create(client, 2**20)
    done, mfns = reserve(client, memory.POPULATE_PHYSMAP, domid, [0, 512], order=9)
    assert done == 2
    assert all(mfn % 512 == 0 for mfn in mfns)
    assert reserve(client, memory.POPULATE_PHYSMAP, domid, [0], order=18)[0] == 0


def test_a_bad_list_of_extents_does_nothing(client: Any) -> None:
    domid = create(client, 16)
    for operation in (memory.POPULATE_PHYSMAP, memory.DECREASE_RESERVATION):
        assert client.call(operation, domid, extent_start=8, nr_extents=1).result == 0
    assert client.raw(memory.POPULATE_PHYSMAP, 8) == 0
    assert client.call(memory.INCREASE_RESERVATION, domid, nr_extents=2).result == 2


def test_taking_memory_away(client: Any) -> None:
    domid = create(client, 16)
    _, mfns = reserve(client, memory.POPULATE_PHYSMAP, domid, [0, 1, 2])
    free = client.xen.machine.heap.free
    assert reserve(client, memory.DECREASE_RESERVATION, domid, mfns[:2])[0] == 2
    assert reserve(client, memory.DECREASE_RESERVATION, domid, mfns)[0] == 0
    assert (tot_pages(client, domid), client.xen.machine.heap.free) == (1, free + 2)
    shared = client.xen.domains[domid].shared_info
    assert reserve(client, memory.DECREASE_RESERVATION, domid, [shared])[0] == 0


def test_populating_a_translated_domain_needs_paging_memory(client: Any) -> None:
    domid = create_pvh(client, 4096)
    assert client.call(domctl_paging.SET_PAGING_MEMPOOL_SIZE, domid, size=4 * PAGE_SIZE).result == 0
    gfns = [0, 1, 512, 1024]
    done, after = reserve(client, memory.POPULATE_PHYSMAP, domid, gfns)
    assert (done, after) == (3, gfns)
    assert client.call(domctl_paging.SET_PAGING_MEMPOOL_SIZE, domid, size=PAGE_SIZE).result == -errno.ENOMEM
    client.call(domctl_paging.SET_PAGING_MEMPOOL_SIZE, domid, size=1 << 20)
    assert reserve(client, memory.POPULATE_PHYSMAP, domid, [0xFEFFF])[0] == 1
    assert client.call(memory.MAXIMUM_GPFN, domid).result == 0xFEFFF
    assert reserve(client, memory.POPULATE_PHYSMAP, domid, [2048], order=9)[0] == 1
    assert reserve(client, memory.INCREASE_RESERVATION, domid, [0])[0] == 1
    assert reserve(client, memory.DECREASE_RESERVATION, domid, [0, 7])[0] == 1


def test_types_of_frames(client: Any) -> None:
    root = client.xen.domains[1].vcpus[0].context
    context = x86.VCPU_GUEST_CONTEXT_STRUCT.at(client.interface).unpack(root)
    cr3 = context["ctrlreg"][3] >> 12
    arch = arch_of(client, 1)
    plain = words_of_p2m(client, 1)[0]
    shared = client.xen.domains[1].shared_info

    def types(domid: int, *frames: int) -> list[int]:
        arena = client.buffer(Words("little").pack(frames))
        answer = client.call(domctl.GETPAGEFRAMEINFO3, domid, num=len(frames), array=arena.address)
        assert answer.result == 0
        return list(words(arena.view[: 8 * len(frames)]))

    assert arch["p2m_cr3"] >> 12 == cr3
    assert types(1, cr3, plain, shared, 0, ABSENT) == [
        PageType.L4TAB | PAGE_PINNED, PageType.NOTAB, PageType.XTAB, PageType.XTAB, PageType.XTAB
    ]  # fmt: skip
    assert types(2, 0, 0xFEFFF, 0x9000) == [PageType.NOTAB, PageType.NOTAB, PageType.XTAB]
    assert client.call(domctl.GETPAGEFRAMEINFO3, 1, num=1025).result == -errno.E2BIG
    assert client.call(domctl.GETPAGEFRAMEINFO3, 1, num=0, array=8).result == 0
    assert client.call(domctl.GETPAGEFRAMEINFO3, 1, num=1, array=8).result == -errno.EFAULT


def arch_of(client: Any, domid: int) -> dict[str, int]:
    info = client.call(domctl.GETDOMAININFO, domid)
    layout = x86.SHARED_INFO_STRUCT.at(client.interface)
    with mapped(client, domid or DOMID_SELF, info["shared_info_frame"]) as window:
        fields = layout.unpack(bytes(window))
    return {name.removeprefix("arch."): value for name, value in fields.items() if name.startswith("arch.")}


def words_of_p2m(client: Any, domid: int) -> array[int]:
    """Through the tree of frames."""
    arch, owner = arch_of(client, domid), domid or DOMID_SELF
    leaves: list[int] = []
    for frame in page(client, owner, arch["pfn_to_mfn_frame_list_list"]):
        leaves.extend(page(client, owner, frame) if frame else [])
    return _entries(client, owner, leaves, arch["max_pfn"])


def words_by_tables(client: Any, domid: int) -> array[int]:
    """Through the page tables."""
    arch, owner = arch_of(client, domid), domid or DOMID_SELF
    leaves = []
    for place in range(-(-arch["max_pfn"] // WORDS)):
        address, frame = arch["p2m_vaddr"] + place * PAGE_SIZE, arch["p2m_cr3"] >> 12
        for shift in (39, 30, 21, 12):
            entry = page(client, owner, frame)[address >> shift & 511]
            assert entry & 1
            frame = (entry & 0xFFFFFFFFFF000) >> 12
        leaves.append(frame)
    return _entries(client, owner, leaves, arch["max_pfn"])


def _entries(client: Any, owner: int, leaves: list[int], count: int) -> array[int]:
    with mapped(client, owner, *leaves[: -(-count // WORDS)]) as window:
        return words(window)[:count]


def test_both_forms_of_a_p2m_agree_with_each_other_and_with_the_m2p(any_client: Any) -> None:
    tree = words_of_p2m(any_client, 1)
    if any_client.xen.profile.since(4, 6):
        assert tree == words_by_tables(any_client, 1)
    own = {pfn: entry for pfn, entry in enumerate(tree) if entry < 1 << 40}
    assert len(own) == tot_pages(any_client, 1)
    m2p = m2p_of(any_client)
    assert all(m2p[mfn] == pfn for pfn, mfn in own.items())
    others = [entry for entry in tree if entry >= 1 << 40]
    assert len([entry for entry in others if entry == ABSENT]) == 108
    assert sorted(entry >> 62 for entry in others if entry != ABSENT) == [1, 2]


def test_dom0_has_a_p2m_too_and_an_older_guest_only_the_tree(client: Any) -> None:
    entries = words_of_p2m(client, 0)
    assert len([entry for entry in entries if entry < 1 << 40]) == tot_pages(client, 0) == 307_200
    assert len([entry for entry in entries if entry >> 62 == 1]) == 97
    assert arch_of(client, 3)["p2m_cr3"] == 0
    assert len(words_of_p2m(client, 3)) == client.call(memory.MAXIMUM_GPFN, 3).result + 1


def test_mappings_share_memory_with_the_guest(client: Any) -> None:
    frame = words_of_p2m(client, 1)[100]
    view, seen = memoryview(mapped(client, 1, frame, writable=True)), memoryview(mapped(client, 1, frame))
    view[10:14] = b"pyxc"
    assert bytes(seen[10:14]) == b"pyxc"
    assert seen.readonly and not view.readonly
    view.release()
    seen.release()
    assert client.xen.machine.memory.read(frame, 10, 4) == b"pyxc"


def test_what_cannot_be_mapped_has_an_errno_for_each_frame(client: Any) -> None:
    mine, foreign = words_of_p2m(client, 1)[0], words_of_p2m(client, 3)[0]
    root = arch_of(client, 1)["p2m_cr3"] >> 12
    beyond = client.call(memory.MAXIMUM_RAM_PAGE).result
    errors = mapped(client, 1, mine, foreign, beyond, ABSENT).errors
    assert errors == (0, errno.EBUSY, errno.EPERM, errno.EINVAL)
    assert mapped(client, 1, root).errors == ()
    assert mapped(client, 1, root, writable=True).errors == (errno.EBUSY,)
    assert mapped(client, 2, 0, 0x9000).errors == (0, errno.EINVAL)
    assert mapped(client, 0, client.xen.domains[0].shared_info).errors == (errno.ESRCH,)
    assert mapped(client, DOMID_SELF, client.xen.domains[0].shared_info).errors == ()
    assert mapped(client, 0x7000, 1).errors == (errno.ESRCH,)
    assert mapped(client, DOMID_XEN, 1024, writable=True).errors == (errno.EBUSY,)
    with pytest.raises(OSError) as caught:
        mapped(client, 1)
    assert caught.value.errno == errno.EINVAL


def test_a_mapped_domain_stays_dying_until_the_mapping_goes(client: Any) -> None:
    frames = list(words_of_p2m(client, 1)[:3])
    window = mapped(client, 1, *frames)
    assert client.call(domctl.DESTROYDOMAIN, 1).result == 0
    zombie = client.call(domctl.GETDOMAININFO, 1)
    assert (zombie["domid"], zombie["flags"] & 1, zombie["tot_pages"]) == (1, 1, 3)
    assert [held.domid for held in client.link.maps] == [1]
    assert reserve(client, memory.POPULATE_PHYSMAP, 1, [0])[0] == 0
    assert client.call(domctl_paging.SHADOW_OP_GET_ALLOCATION, 1).result == 0
    window.close()
    assert client.call(domctl.GETDOMAININFO, 1)["domid"] == 2
    assert client.link.maps == []


def test_a_mapping_that_is_forgotten_lets_go_too(client: Any) -> None:
    window = mapped(client, 1, words_of_p2m(client, 1)[0])
    client.call(domctl.DESTROYDOMAIN, 1)
    assert 1 in client.xen.domains
    del window
    gc.collect()
    client.call(memory.MAXIMUM_RAM_PAGE)
    assert 1 not in client.xen.domains


def test_another_client_keeps_a_domain_as_well(client: Any) -> None:
    other = client.xen.connect()
    window = other.map_frames(1, array("Q", [words_of_p2m(client, 1)[0]]))
    client.call(domctl.DESTROYDOMAIN, 1)
    assert client.link.maps == [] and other.maps == [window]
    assert 1 in client.xen.domains
    other.close()
    client.call(memory.MAXIMUM_RAM_PAGE)
    assert 1 not in client.xen.domains


def test_a_link_does_not_close_under_a_memoryview(client: Any) -> None:
    link = client.xen.connect()
    view = memoryview(link.map_frames(1, array("Q", [words_of_p2m(client, 1)[0]])))
    with pytest.raises(BufferError):
        link.close()
    view.release()
    link.close()


def test_the_list_of_frames_of_old_releases(client_of: Any) -> None:
    client = client_of((4, 10))
    arena = client.buffer(8 * 8192)
    full = client.call(domctl.GETMEMLIST, 3, max_pfns=8192, start_pfn=5, buffer=arena.address)
    assert full["num_pfns"] == 8192
    listed = set(words(arena.view[: 8 * 8192]))
    assert listed == set(words_of_p2m(client, 3))
    assert client.call(domctl.GETMEMLIST, 3, max_pfns=10, buffer=arena.address)["num_pfns"] == 10
    assert client.call(domctl.GETMEMLIST, 3, max_pfns=2**20 + 1).result == -errno.EOPNOTSUPP
    assert client.call(domctl.GETMEMLIST, 3, max_pfns=1, buffer=8).result == -errno.EFAULT
    window = mapped(client, 3, words_of_p2m(client, 3)[0])
    client.call(domctl.DESTROYDOMAIN, 3)
    assert client.call(domctl.GETMEMLIST, 3, max_pfns=1, buffer=arena.address).result == -errno.EINVAL
    window.close()


def test_populate_on_demand(client_of: Any) -> None:
    new, old = client_of((4, 17)), client_of((4, 14))
    assert new.call(memory.GET_POD_TARGET, 2)["pod_entries"] == 0
    assert new.call(memory.GET_POD_TARGET, 1).result == -errno.EINVAL
    assert old.call(memory.GET_POD_TARGET, 1)["tot_pages"] == 16_384


def test_grant_tables_are_a_resource(client: Any) -> None:
    link, kind = client.link, int(memory.Resource.GRANT_TABLE)
    assert [link.resource_size(1, kind, ident) for ident in (0, 1)] == [64, 8]
    size = client.call(grant_table.QUERY_SIZE, 1)
    assert (size["nr_frames"], size["max_nr_frames"], size["status"]) == (1, 64, 0)
    with link.map_resource(1, kind, 0, 0, 3, writable=True) as window:
        assert len(window) == 3 * PAGE_SIZE
        memoryview(window)[:4] = b"test"
    assert client.call(grant_table.QUERY_SIZE, 1)["nr_frames"] == 3
    assert client.xen.machine.memory.read(client.xen.domains[1].grant_frames[0], 0, 4) == b"test"
    assert client.call(grant_table.QUERY_SIZE, 0x7000)["status"] == grant_table.Status.BAD_DOMAIN
    assert client.call(grant_table.GET_VERSION, 1)["version"] == 1
    assert client.call(grant_table.GET_VERSION, 0x7000).result == -errno.ESRCH


@pytest.mark.parametrize(
    ("domid", "kind", "ident", "first", "count", "number"),
    [
        (0x7000, 1, 0, 0, 1, errno.ESRCH),
        (0, 1, 0, 0, 1, errno.EPERM),
        (DOMID_SELF, 1, 0, 0, 1, errno.EPERM),
        (1, 0, 0, 0, 1, errno.EOPNOTSUPP),
        (1, 1, 5, 0, 1, errno.EINVAL),
        (1, 1, 0, 0, 0, errno.EINVAL),
        (1, 1, 0, 60, 5, errno.EINVAL),
    ],
)
def test_resources_that_cannot_be_mapped(
    client: Any, domid: int, kind: int, ident: int, first: int, count: int, number: int
) -> None:
    with pytest.raises(OSError) as caught:
        client.link.map_resource(domid, kind, ident, first, count)
    assert caught.value.errno == number


def test_sizes_of_resources(client_of: Any) -> None:
    new, old, older = (client_of((4, minor)).link for minor in (17, 14, 10))
    assert old.resource_size(1, 1, 0) == 32
    with pytest.raises(OSError) as caught:
        old.map_resource(1, 1, 0, 0, 33)
    assert caught.value.errno == errno.E2BIG
    for call in (older.resource_size, lambda *which: older.map_resource(*which, 0, 1)):
        with pytest.raises(OSError) as caught:
            call(1, 1, 0)
        assert caught.value.errno == errno.ENOSYS
    for kind, ident in ((9, 0), (1, 9)):
        with pytest.raises(OSError) as caught:
            new.resource_size(1, kind, ident)
        assert caught.value.errno == errno.EINVAL


def test_when_the_host_has_no_frame_left(client: Any) -> None:
    domid = create(client, 2**20)
    for order in (18, 12, 9, 6, 3, 0):
        while reserve(client, memory.POPULATE_PHYSMAP, domid, [0] * 32, order=order)[0] == 32:
            pass
    assert client.xen.machine.heap.free == 0
    assert client.call(domctl.CREATEDOMAIN, 0x7FF5, max_vcpus=1, grant_opts=1).result == -errno.EINVAL
    fields = {"max_vcpus": 1, "grant_opts": 1, "max_grant_frames": -1, "max_maptrack_frames": -1}
    assert client.call(domctl.CREATEDOMAIN, 0x7FF5, **fields).result == -errno.ENOMEM
    with pytest.raises(OSError) as caught:
        client.link.map_resource(1, 1, 0, 0, 5)
    assert caught.value.errno == errno.ENOMEM
    with pytest.raises(MemoryError):
        client.xen.machine.allocate_run(1, 1)
    client.call(domctl.DESTROYDOMAIN, domid)
    assert client.call(domctl.CREATEDOMAIN, 0x7FF5, **fields).result == 0
