# SPDX-License-Identifier: MIT
"""Memory of domains: mapped, read, written, given and taken."""

from __future__ import annotations

import errno
from array import array
from pathlib import Path

import pytest
from hosts import Boot, Host

from pyxc import Domain, errors
from pyxc._core import PAGE_SIZE
from pyxc.abi import domctl, memory

CODE = 0x100
"""A gfn of db1 whose contents are known."""


def empty(host: Host, kb: int = 64, hvm: bool = False) -> Domain:
    """A new domain that may have some memory and has none."""
    made = host.xen.domains.create(hvm=hvm, hap=hvm and host.truth.profile.since(3, 3))
    made.set_max_memory(kb)
    return made


def neighbours(host: Host, domid: int) -> int:
    """A frame of a domain, with three more behind it that are its too."""
    owned = host.owned(domid) - set(host.truth.machine.types)
    return next(mfn for mfn in sorted(owned) if {mfn + 1, mfn + 2, mfn + 3} <= owned)


def test_info_counts_pages(any_host: Host) -> None:
    info = any_host.xen.domains[1].memory.info()
    assert (info.tot_pages, info.max_pages) == (16_384, 16_640)
    assert repr(any_host.xen.domains[1].memory) == "<Memory of domain 1>"


def test_frames_of_a_translated_guest_go_by_its_own_numbers(any_host: Host) -> None:
    domain = any_host.xen.domains["db1"]
    assert domain.memory.read(CODE, size=25) == b"db1: simulated PVH kernel"
    assert domain.memory.read(CODE, offset=5, size=9) == b"simulated"


def test_mapping_is_without_a_copy(host: Host) -> None:
    frame = neighbours(host, 1)
    with host.xen.domains[1].memory.map([frame, frame + 2]) as mapped, memoryview(mapped) as view:
        assert (len(view), view.readonly) == (2 * PAGE_SIZE, True)
        host.truth.machine.memory.write(frame + 2, 7, b"seen at once")
        assert bytes(view[PAGE_SIZE + 7 : PAGE_SIZE + 19]) == b"seen at once"


def test_reading_and_writing_go_on_in_the_next_frames(host: Host) -> None:
    frame = neighbours(host, 1)
    data = bytes(range(256)) * 33
    guest = host.xen.domains[1].memory
    guest.write(frame, data, offset=4000)
    assert guest.read(frame, 4000, len(data)) == data
    truth = b"".join(host.truth.machine.memory.read(frame + index, 0, PAGE_SIZE) for index in range(4))
    assert truth[4000 : 4000 + len(data)] == data


def test_the_whole_page_is_read_unless_told(host: Host) -> None:
    assert len(host.xen.domains[2].memory.read(CODE)) == PAGE_SIZE


def test_dom0_reads_its_own_memory(any_host: Host) -> None:
    dom0 = any_host.xen.domains[0]
    frame = sorted(any_host.owned(0))[5]
    any_host.truth.machine.memory.write(frame, 0, b"mine")
    assert dom0.memory.read(frame, size=4) == b"mine"


def test_a_frame_that_cannot_be_mapped_is_named(host: Host) -> None:
    frame = neighbours(host, 1)
    other = min(host.owned(3))
    with pytest.raises(errors.HypercallError, match=rf"domain 1 failed: EBUSY.*frame {other:#x}") as caught:
        host.xen.domains[1].memory.map([frame, other])
    assert caught.value.errno == errno.EBUSY
    with pytest.raises(errors.HypercallError, match="frame 0xfffff cannot be mapped"):
        host.xen.domains[2].memory.read(0xFFFFF)


@pytest.mark.parametrize(
    ("frame", "offset", "size"),
    [(-1, 0, 1), (2**52, 0, 1), (0, -1, 1), (0, PAGE_SIZE, 1), (0, 0, 0), (0, 0, -1)],
)
def test_places_that_cannot_be_are_mistakes_of_the_caller(
    host: Host, frame: int, offset: int, size: int
) -> None:
    guest = host.xen.domains[1].memory
    with pytest.raises(ValueError):
        guest.read(frame, offset, size)
    with pytest.raises(ValueError):
        guest.write(frame, bytes(max(size, 0)), offset)


def test_frames_to_map_are_checked(host: Host) -> None:
    guest = host.xen.domains[1].memory
    for frames in ([], [-1], [2**64], [2**52]):
        with pytest.raises(ValueError, match="frame"):
            guest.map(frames)


def test_a_read_only_handle_maps_for_reading_only(boot: Boot) -> None:
    host = boot(readonly=True)
    guest = host.xen.domains[2].memory
    assert guest.read(CODE, size=3) == b"db1"
    with pytest.raises(errors.ReadOnlyError, match="mapping memory writable"):
        guest.map(CODE, writable=True)
    with pytest.raises(errors.ReadOnlyError):
        guest.write(CODE, b"x")
    with pytest.raises(errors.ReadOnlyError):
        guest.populate([1])


def test_a_pv_domain_is_given_memory_at_pfns(any_host: Host) -> None:
    made = empty(any_host)
    frames = made.memory.populate(range(10, 26))
    assert set(frames) == any_host.owned(made.domid)
    assert [any_host.m2p(mfn) for mfn in frames] == list(range(10, 26))
    made.memory.decrease(frames[:4])
    assert any_host.owned(made.domid) == set(frames[4:])


def test_a_translated_domain_is_given_memory_at_gfns(any_host: Host) -> None:
    made = empty(any_host, hvm=True)
    assert list(made.memory.populate([16, 17])) == [16, 17]
    assert set(any_host.truth.domains[made.domid].p2m) == {16, 17}
    assert made.memory.maximum_gpfn() == 17
    made.memory.decrease([16])
    assert made.info().tot_pages == 1


def test_extents_are_runs_of_pages(host: Host) -> None:
    made = empty(host, kb=4 * 4096)
    first, second = made.memory.increase(2, order=3)
    assert host.owned(made.domid) == {*range(first, first + 8), *range(second, second + 8)}
    made.memory.decrease([first], order=3)
    assert host.owned(made.domid) == set(range(second, second + 8))


def test_a_short_count_gives_everything_back(host: Host) -> None:
    made = empty(host, kb=16)
    with pytest.raises(errors.HypercallError, match=r"4 of 6 extents were done: raise the domain's max_mem"):
        made.memory.populate(range(6))
    assert host.owned(made.domid) == set()
    with pytest.raises(errors.HypercallError) as caught:
        made.memory.increase(5)
    assert caught.value.errno == errno.ENOMEM
    assert host.owned(made.domid) == set()
    made.set_max_memory(0)
    with pytest.raises(errors.HypercallError, match="0 of 1 extents"):
        made.memory.populate([1])
    with pytest.raises(errors.HypercallError, match="0 of 1 extents"):
        made.memory.increase(1)


def test_taking_what_is_not_there_says_how_much_was_taken(host: Host) -> None:
    made = empty(host)
    frames = made.memory.populate(range(3))
    with pytest.raises(errors.HypercallError, match="1 of 2 extents"):
        made.memory.decrease([frames[0], frames[0]])
    assert host.owned(made.domid) == set(frames[1:])


def test_more_extents_than_one_call_takes(host: Host) -> None:
    made = empty(host, kb=4 * 70_000)
    frames = made.memory.populate(range(70_000))
    assert set(frames) == host.owned(made.domid) and len(frames) == 70_000


def test_orders_and_counts_are_checked(host: Host) -> None:
    made = empty(host)
    before = host.link.hypercalls
    with pytest.raises(ValueError, match="order"):
        made.memory.populate([0], order=19)
    with pytest.raises(ValueError, match="count"):
        made.memory.increase(-1)
    assert host.link.hypercalls == before


def test_a_failed_call_is_an_error_of_its_operation(host: Host) -> None:
    made = empty(host)
    host.link.fail(memory.POPULATE_PHYSMAP.family.hypercall, errno.ENOSYS)
    with pytest.raises(errors.Unsupported, match="populate_physmap"):
        made.memory.populate(array("Q", [1]))
    assert host.owned(made.domid) == set()


# Reading can change something: memory that is populated on demand, or paged out.


def make_on_demand(host: Host, domid: int, count: int) -> int:
    """As a toolstack builds a guest with less memory than it believes to have; returns the first gfn."""
    domain, first = host.truth.domains[domid], 0x40000
    for gfn in range(first, first + count):
        mfn = host.truth.machine.allocate(domid)
        assert mfn is not None
        domain.pod_gfns.add(range(gfn, gfn + 1))
        domain.pod_cache.append(mfn)
    domain.own(count)
    domain.highest_gfn = first + count
    return first


@pytest.mark.parametrize("release", ["3.4", "4.17", "4.22"])
def test_a_read_only_handle_populates_nothing(boot: Boot, release: str, tmp_path: Path) -> None:
    host = boot(release, readonly=True)
    first, db1 = make_on_demand(host, 2, 100), host.xen.domains["db1"]
    query = "getpageframeinfo2" if release == "3.4" else "getpageframeinfo3"
    frames = array("I" if release == "3.4" else "Q", range(first, first + 50)).tobytes()
    for read in (
        lambda: db1.memory.frames(force=True),
        lambda: db1.memory.frames(force=True, types=True),
        lambda: db1.memory.frames(force=True, source="map"),
        lambda: db1.dump_core(tmp_path / "core", force=True, pause=False, provenance="none"),
        lambda: db1.memory.read(first),
        lambda: db1.memory.map([first]),
        lambda: host.xen.domctl(query, 2, num=50, array=frames),
    ):
        with pytest.raises(errors.ReadOnlyError):
            read()
    assert len(host.truth.domains[2].pod_gfns) == 100
    assert list(tmp_path.iterdir()) == []


def test_without_memory_on_demand_it_reads(boot: Boot, tmp_path: Path) -> None:
    host = boot(readonly=True)
    db1 = host.xen.domains["db1"]
    assert db1.memory.read(0x100, size=4) == b"db1:"
    assert len(db1.memory.frames(types=True).frames) == db1.info().tot_pages
    assert db1.dump_core(tmp_path / "core", pause=False, provenance="none").nr_missing == 0
    assert host.xen.domctl("getpageframeinfo3", 1, num=1, array=bytes(8)).result == 0
    assert len(host.xen.domains["web1"].memory.read(min(host.owned(1)))) == 4096


def test_a_read_only_handle_brings_no_pages_back(boot: Boot) -> None:
    host = boot(readonly=True)
    host.link.lie(domctl.GETDOMAININFO, paged_pages=3)
    with pytest.raises(errors.ReadOnlyError, match="can page memory of domain 2 in"):
        host.xen.domains["db1"].memory.read(0x100)
