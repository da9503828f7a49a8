# SPDX-License-Identifier: MIT
"""Memory that is promised, memory for Xen's own tables, and what a guest is told of its address space."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host

from pyxc import E820Entry, MapSpace, MemoryType, PodTarget, errors
from pyxc.abi import memory


def test_a_claim_is_kept_free_for_its_domain(host: Host) -> None:
    made = host.xen.domains.create()
    made.set_max_memory(1 << 20)
    free = host.xen.physinfo().free_pages
    made.memory.claim(1024)
    assert made.info().outstanding_pages == 256
    assert host.xen.physinfo().outstanding_pages == 256
    made.memory.populate(range(100))
    assert made.info().outstanding_pages == 156
    greedy = host.xen.domains.create()
    greedy.set_max_memory(free * 4)
    with pytest.raises(errors.HypercallError) as caught:
        greedy.memory.claim((free - 100) * 4)
    assert caught.value.errno == errno.ENOMEM
    made.memory.claim(0)
    assert made.info().outstanding_pages == 0
    made.destroy()


def test_what_is_claimed_is_not_given_to_others(host: Host) -> None:
    free = host.xen.physinfo().free_pages
    made, other = host.xen.domains.create(), host.xen.domains.create()
    for domain in (made, other):
        domain.set_max_memory(free * 4)
    left = host.truth.unclaimed_pages
    made.memory.claim((left - 8) * 4)
    assert len(other.memory.populate(range(8))) == 8
    with pytest.raises(errors.HypercallError, match="0 of 1 extents"):
        other.memory.populate([9])
    assert len(made.memory.populate(range(16))) == 16


def test_claims_that_make_no_sense(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    for kb in (4, 1 << 40):
        with pytest.raises(errors.HypercallError, match="claim_pages.*EINVAL"):
            web1.memory.claim(kb)
    with pytest.raises(ValueError, match="kb"):
        web1.memory.claim(-1)


def test_claims_came_with_4_3(boot: Boot) -> None:
    with pytest.raises(errors.Unsupported):
        boot("4.1").xen.domains[1].memory.claim(1 << 17)


def test_memory_on_demand(host: Host) -> None:
    made = host.xen.domains.create(hvm=True, hap=True)
    made.set_max_memory(8 << 10)
    assert made.memory.set_pod_target(2 << 10) == PodTarget(512, 512, 0)
    gfns = b"".join(gfn.to_bytes(8, "little") for gfn in range(1024))
    flags = int(memory.MemFlag.POPULATE_ON_DEMAND)
    host.xen.call(memory.POPULATE_PHYSMAP, made.domid, extent_start=gfns, nr_extents=1024, mem_flags=flags)
    assert made.memory.pod_target() == PodTarget(512, 512, 1024)
    made.memory.write(7, b"now it is there")
    assert made.memory.pod_target() == PodTarget(512, 511, 1023)
    assert made.memory.read(7, size=3) == b"now"
    assert made.memory.set_pod_target(4 << 10).pod_cache_pages == 1023
    assert made.info().tot_pages == 1024
    with pytest.raises(errors.Unsupported, match="on demand; force"):
        made.memory.frames()
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        made.memory.set_pod_target(1 << 20)


@pytest.mark.parametrize("release", ["4.14", "4.17"])
def test_the_paging_pool_is_in_kib_on_every_release(boot: Boot, release: str) -> None:
    host = boot(release)
    made = host.xen.domains.create(hvm=True, hap=True)
    made.memory.set_paging_pool(4 << 10)
    assert made.memory.paging_pool_kb() == 4 << 10
    assert host.truth.domains[made.domid].paging_pages == 1024
    with pytest.raises(ValueError, match="multiple of 4"):
        made.memory.set_paging_pool(4097)


def test_older_releases_round_the_paging_pool_up(boot: Boot) -> None:
    made = boot("4.14").xen.domains.create(hvm=True, hap=True)
    made.memory.set_paging_pool(1028)
    assert made.memory.paging_pool_kb() == 2 << 10


def test_a_memory_map_is_for_the_guest(any_host: Host) -> None:
    web1 = any_host.xen.domains[1]
    web1.memory.set_e820([E820Entry(0, 0xA0000), E820Entry(0xFC000000, 4096, MemoryType.ACPI)])
    assert any_host.truth.domains[1].e820 == [
        {"addr": 0, "size": 0xA0000, "type": 1},
        {"addr": 0xFC000000, "size": 4096, "type": 3},
    ]
    web1.memory.set_e820([])
    assert any_host.truth.domains[1].e820 == []


def test_a_memory_map_that_cannot_be(host: Host) -> None:
    guest = host.xen.domains[1].memory
    for entry in ((-1, 1, 1), (0, 2**64 + 1, 1), (2**64 - 1, 2, 1), (0, 1, 99)):
        with pytest.raises(ValueError):
            guest.set_e820([E820Entry(*entry)])  # type: ignore[arg-type]
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        guest.set_e820([E820Entry(0, 4096)] * 1025)


def test_pages_at_guest_frames(host: Host) -> None:
    db1, truth = host.xen.domains["db1"], host.truth.domains[2]
    assert db1.info().shared_info_frame == 2**64 - 1
    db1.memory.add_to_physmap(MapSpace.SHARED_INFO, 0, 0xF0000)
    assert db1.info().shared_info_frame == 0xF0000
    mfn = truth.p2m[0x100]
    db1.memory.add_to_physmap(MapSpace.GMFN, 0x100, 0xF0001)
    assert truth.p2m[0xF0001] == mfn and 0x100 not in truth.p2m
    assert db1.memory.read(0xF0001, size=3) == b"db1"
    db1.memory.remove_from_physmap(0xF0000)
    assert db1.info().shared_info_frame == 2**64 - 1
    with pytest.raises(errors.HypercallError, match="ENOENT"):
        db1.memory.remove_from_physmap(0xF0000)
    with pytest.raises(errors.PermissionDenied):
        host.xen.domains["web1"].memory.add_to_physmap(MapSpace.SHARED_INFO, 0, 1)
    with pytest.raises(ValueError, match="gfn"):
        db1.memory.remove_from_physmap(-1)


@pytest.mark.parametrize("space", [MapSpace.GMFN_RANGE, MapSpace.GMFN_FOREIGN, MapSpace.DEV_MMIO, 7])
def test_what_takes_more_than_an_index_is_refused(host: Host, space: MapSpace) -> None:
    db1 = host.xen.domains["db1"]
    before = host.link.hypercalls
    with pytest.raises(ValueError, match="expected SHARED_INFO or GRANT_TABLE or GMFN"):
        db1.memory.add_to_physmap(space, 0, 0xF0000)
    assert host.link.hypercalls == before


def test_memory_that_gives_way_is_freed(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    owned = db1.info().tot_pages
    db1.memory.add_to_physmap(MapSpace.GRANT_TABLE, 0, 0x100)
    assert db1.info().tot_pages == owned - 1


def test_sharing_is_not_built_into_these(host: Host) -> None:
    with pytest.raises(errors.Unsupported, match="mem_sharing_op"):
        host.xen.domains["db1"].memory.set_sharing(True)
