# SPDX-License-Identifier: MIT
"""Frame lists and p2ms: what honest guests publish, and what liars cannot make of it."""

from __future__ import annotations

import errno
from array import array

import pytest
from hosts import Boot, Host

from pyxc import errors, sim
from pyxc.abi import domctl, memory
from pyxc.abi.arch import x86
from pyxc.abi.domctl import PageType

FORMS = ("p2m_vaddr", "frame_list_list")
ABSENT = 2**64 - 1
FOREIGN, IDENTITY = 1 << 63, 1 << 62


def list_leaves(host: Host, domid: int) -> list[int]:
    """Frames that hold the p2m's entries, from the tree that the guest publishes."""
    machine = host.truth.machine
    (first, *_) = [machine.word(host.published(domid, "pfn_to_mfn_frame_list_list"), 0)]
    return [machine.word(first, index) for index in range(-(-host.published(domid, "max_pfn") // 512))]


def set_entry(host: Host, domid: int, pfn: int, entry: int) -> None:
    leaf = list_leaves(host, domid)[pfn // 512]
    machine = host.truth.machine
    machine.memory.write(leaf, pfn % 512 * 8, machine.words.pack([entry]))


@pytest.mark.parametrize("domid", [0, 1, 3])
def test_the_frames_of_a_pv_guest_are_those_that_it_owns(any_host: Host, domid: int) -> None:
    found = any_host.xen.domains[domid].memory.frames()
    assert set(found.frames) == any_host.owned(domid)
    assert len(found.frames) == any_host.xen.domains[domid].info().tot_pages
    linear = domid != 3 and any_host.truth.profile.since(4, 6)
    assert found.source == ("p2m_vaddr" if linear else "frame_list_list")
    assert (found.translated, found.types) == (False, None)


def test_the_frames_of_a_translated_guest_are_its_gfns(any_host: Host) -> None:
    source = "getpageframeinfo3" if any_host.truth.profile.since(4, 0) else "map"
    found = any_host.xen.domains["db1"].memory.frames()
    assert sorted(found.frames) == sorted(any_host.truth.domains[2].p2m)
    assert (found.source, found.translated) == (source, True)
    assert repr(found) == f"<FrameList of {len(found.frames)} gfns from {source}>"


@pytest.mark.parametrize("hvm", [False, True])
def test_a_domain_without_memory_has_no_frames(host: Host, hvm: bool) -> None:
    found = host.xen.domains.create(hvm=hvm, hap=hvm).memory.frames()
    assert (list(found.frames), found.source, found.translated) == ([], "", hvm)
    assert "from nothing" in repr(found)


def test_all_forms_of_a_p2m_agree_with_the_machine(any_host: Host) -> None:
    guest = any_host.xen.domains["web1"].memory
    forms = FORMS if any_host.truth.profile.since(4, 6) else FORMS[1:]
    *others, tree = (guest.p2m(form) for form in forms)
    assert (*(p2m.source for p2m in others), tree.source) == forms
    assert all(p2m[:3] == tree[:3] for p2m in others)
    valid = {pfn: mfn for pfn, mfn in enumerate(tree.entries) if mfn != ABSENT}
    assert set(valid.values()) == any_host.owned(1)
    assert len(tree.entries) == any_host.published(1, "max_pfn")
    assert all(any_host.m2p(mfn) == pfn for pfn, mfn in valid.items())
    assert repr(tree) == f"<P2m of {len(tree.entries)} pfns from frame_list_list>"


def test_identity_and_foreign_entries_are_apart(host: Host) -> None:
    p2m = host.xen.domains["web1"].memory.p2m()
    assert list(p2m.identity) == [0xA0]
    ((pfn, frame),) = zip(*p2m.foreign)
    assert frame in host.owned(0)
    assert p2m.entries[0xA0] == p2m.entries[pfn] == p2m.entries[-1] == ABSENT


def test_holes_in_the_tables_are_absent(host: Host) -> None:
    whole = host.xen.domains["web1"].memory.p2m()
    machine = host.truth.machine
    lists = machine.word(host.published(1, "pfn_to_mfn_frame_list_list"), 0)
    machine.memory.write(lists, 2 * 8, machine.words.pack([ABSENT]))
    tree = host.xen.domains["web1"].memory.p2m("frame_list_list")
    assert list(tree.entries[1024:1536]) == [ABSENT] * 512
    assert tree.entries[:1024] == whole.entries[:1024] and tree.entries[1536:] == whole.entries[1536:]
    machine.memory.write(host.published(1, "pfn_to_mfn_frame_list_list"), 0, machine.words.pack([ABSENT]))
    assert set(host.xen.domains["web1"].memory.p2m("frame_list_list").entries) == {ABSENT}


def test_a_page_table_that_is_not_there_makes_a_hole(host: Host) -> None:
    root = host.published(1, "p2m_cr3") >> 12
    host.truth.machine.memory.write(root, 0, bytes(4096))
    assert set(host.xen.domains["web1"].memory.p2m().entries) == {ABSENT}


def test_only_pv_domains_have_a_p2m(host: Host) -> None:
    with pytest.raises(errors.Unsupported, match="only PV domains"):
        host.xen.domains["db1"].memory.p2m()
    with pytest.raises(errors.Unsupported, match="publishes no p2m_vaddr"):
        host.xen.domains["build"].memory.p2m("p2m_vaddr")


def test_a_guest_without_p2m_is_unsupported(host: Host) -> None:
    host.publish(1, max_pfn=0)
    with pytest.raises(errors.Unsupported, match="the guest publishes none"):
        host.xen.domains[1].memory.frames()
    host.publish(1, max_pfn=16, p2m_vaddr=0, pfn_to_mfn_frame_list_list=0)
    with pytest.raises(errors.Unsupported, match="the guest publishes no p2m"):
        host.xen.domains[1].memory.frames()


@pytest.mark.parametrize("form", FORMS)
def test_the_p2m_of_a_32_bit_guest(boot: Boot, form: str) -> None:
    """Its words are half as wide, those of its page tables are not; marks are in their highest bits."""
    host = boot("4.10")
    made = host.xen.domains.build(sim.kernel("pv32"), memory_kb=16 << 10)
    context, machine = made.vcpu(0).context(), host.truth.machine
    layout = x86.START_INFO_32_STRUCT.at(host.xen.interface)
    root = x86.frame_of_cr3_32(context["cr3"])

    def frame(address: int) -> int:
        mfn = root
        for shift in (30, 21, 12):
            mfn = (machine.word(mfn, address >> shift & 511) & x86.PTE_FRAME_MASK) >> 12
        return mfn

    p2m = layout.unpack(made.memory.read(frame(context["esi"])))["mfn_list"]
    leaves = [frame(p2m + 4096 * page) for page in range(4)]
    expected = array(
        "Q",
        [entry for leaf in leaves for entry in machine.words.unpack32(machine.memory.read(leaf, 0, 4096))],
    )
    lists = [machine.frames_of(made.domid).runs[-1][-1 - place] for place in range(2)]
    machine.memory.write(lists[0], 0, machine.words.pack32([lists[1]]))
    machine.memory.write(lists[1], 0, machine.words.pack32(leaves))
    for pfn, entry in ((4000, 2**32 - 1), (4001, 1 << 31 | 5), (4002, 1 << 30 | 4002)):
        machine.memory.write(leaves[3], 4 * (pfn % 1024), machine.words.pack32([entry]))
        expected[pfn] = ABSENT
    shared = x86.SHARED_INFO_32_STRUCT.at(host.xen.interface)
    fields = {"arch.max_pfn": 4090, "arch.p2m_cr3": context["cr3"], "arch.p2m_vaddr": p2m,
              "arch.pfn_to_mfn_frame_list_list": lists[0]}  # fmt: skip
    for name, value in fields.items():
        machine.memory.write(
            host.truth.domains[made.domid].shared_info, shared.offsets[name], machine.words.pack32([value])
        )
    found = made.memory.p2m(form)
    assert found.source == form
    assert found.entries == expected[:4090]
    assert (found.identity, found.foreign.pfns, found.foreign.frames) == (
        array("Q", [4002]), array("Q", [4001]), array("Q", [5]),
    )  # fmt: skip


@pytest.mark.parametrize(("release", "source"), [("4.10", "getmemlist"), ("4.17", "getpageframeinfo3")])
def test_frames_without_p2m_come_from_the_hypervisor(boot: Boot, release: str, source: str) -> None:
    host = boot(release)
    host.publish(3, max_pfn=0)
    found = host.xen.domains[3].memory.frames(force=True)
    assert (set(found.frames), found.source) == (host.owned(3), source)


def test_more_frames_than_asked_for_are_not_believed(boot: Boot) -> None:
    host = boot("4.10")
    host.publish(3, max_pfn=0)
    host.link.lie(domctl.GETMEMLIST, num_pfns=2**40)
    with pytest.raises(errors.DecodeError, match="num_pfns is reported as 1099511627776"):
        host.xen.domains[3].memory.frames()


@pytest.mark.parametrize("max_pfn", [2**32 + 1, 2**63])
def test_a_guest_that_claims_to_be_huge_is_refused(host: Host, max_pfn: int) -> None:
    host.publish(1, max_pfn=max_pfn)
    with pytest.raises(errors.Unsupported, match=f"claims {max_pfn} pfns"):
        host.xen.domains[1].memory.p2m()


def test_a_tree_too_small_for_what_is_claimed_is_refused(host: Host) -> None:
    host.truth.domains[3].tot_pages = 2**26
    host.publish(3, max_pfn=2**31)
    with pytest.raises(errors.Unsupported, match="too large for a tree"):
        host.xen.domains[3].memory.frames()


def test_a_guest_cannot_list_more_than_it_owns(host: Host) -> None:
    machine, frame = host.truth.machine, min(host.owned(1))
    for leaf in list_leaves(host, 1):
        machine.memory.write(leaf, 0, machine.words.pack([frame] * 512))
    host.truth.domains[1].tot_pages = 4096
    with pytest.raises(errors.DecodeError, match="lists more frames than the 4096 that it owns"):
        host.xen.domains[1].memory.frames()


def test_large_pages_in_a_p2m_are_refused(host: Host) -> None:
    machine = host.truth.machine
    vaddr, table = host.published(1, "p2m_vaddr"), host.published(1, "p2m_cr3") >> 12
    for shift in (39, 30):
        table = machine.word(table, vaddr >> shift & 511) >> 12 & (2**40 - 1)
    machine.memory.write(table, (vaddr >> 21 & 511) * 8, machine.words.pack([table << 12 | 0x81]))
    with pytest.raises(errors.DecodeError, match="large pages"):
        host.xen.domains[1].memory.p2m()


def test_a_list_that_leads_to_somebody_else_is_an_error(host: Host) -> None:
    host.publish(3, pfn_to_mfn_frame_list_list=min(host.owned(0)))
    with pytest.raises(errors.HypercallError, match="cannot be mapped") as caught:
        host.xen.domains[3].memory.frames()
    assert caught.value.errno == errno.EBUSY


def test_a_p2m_that_changes_while_it_is_read_is_read_again(host: Host) -> None:
    acts = iter(range(4))

    def act() -> None:
        if next(acts, None) is not None:
            host.publish(1, p2m_generation=host.published(1, "p2m_generation") + 2)
            set_entry(host, 1, 5, ABSENT)

    host.link.guest_acts = act
    assert host.xen.domains[1].memory.p2m().entries[5] == ABSENT


@pytest.mark.parametrize("step", [1, 2])
def test_a_guest_that_never_rests_has_to_be_paused(host: Host, step: int) -> None:
    def act() -> None:
        host.publish(1, p2m_generation=host.published(1, "p2m_generation") + step)

    host.link.guest_acts = act
    with pytest.raises(errors.HypercallError, match="pause it first") as caught:
        host.xen.domains[1].memory.frames()
    assert caught.value.errno == errno.EAGAIN


def test_types_come_on_request(any_host: Host) -> None:
    found = any_host.xen.domains["build"].memory.frames(types=True)
    assert found.types is not None
    types = dict(zip(found.frames, found.types, strict=True))
    truth = any_host.truth.machine.types
    assert types == {mfn: truth.get(mfn, 0) >> 28 for mfn in found.frames}
    assert PageType.L4TAB >> 28 in {kind & 7 for kind in types.values()}


def test_asking_would_populate_what_is_on_demand(host: Host) -> None:
    host.link.lie(memory.GET_POD_TARGET, pod_entries=5)
    guest = host.xen.domains["db1"].memory
    with pytest.raises(errors.Unsupported, match="would populate 5 pages on demand; force=True"):
        guest.frames()
    with pytest.raises(errors.Unsupported, match="on demand; force"):
        guest.frames(types=True)
    assert len(guest.frames(force=True).frames) == len(host.truth.domains[2].p2m)
    assert host.xen.domains["web1"].memory.frames(types=True).types is not None


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOMEM])
def test_a_failing_call_ends_a_list_without_leaks(host: Host, number: int) -> None:
    for operation in (domctl.GETDOMAININFO, domctl.GET_ADDRESS_SIZE):
        host.link.fail(operation, number)
        with pytest.raises(errors.HypercallError, match=operation.name):
            host.xen.domains["web1"].memory.frames()
    host.link.fail(domctl.GETPAGEFRAMEINFO3, number)
    with pytest.raises(errors.HypercallError, match="getpageframeinfo3"):
        host.xen.domains["db1"].memory.frames()
    assert isinstance(host.xen.domains["db1"].memory.frames().frames, array)


def test_a_source_can_be_chosen(boot: Boot) -> None:
    host = boot("4.10")
    memory = host.xen.domains["web1"].memory
    lists = {name: memory.frames(source=name) for name in ("getmemlist", "p2m_vaddr", "frame_list_list")}
    assert {name: found.source for name, found in lists.items()} == {name: name for name in lists}
    assert len({frozenset(found.frames) for found in lists.values()}) == 1


def test_a_source_that_is_not_there_is_not_replaced(host: Host) -> None:
    with pytest.raises(errors.Unsupported, match=r"Xen 4\.17 has no domctl\.getmemlist"):
        host.xen.domains["web1"].memory.frames(source="getmemlist")
    with pytest.raises(errors.Unsupported, match=r"Xen 4\.17 has no dom0_op"):
        host.xen.domains["web1"].memory.frames(source="getmemlist2")


def test_frames_of_a_pv_guest_are_not_found_by_mapping(any_host: Host) -> None:
    with pytest.raises(errors.Unsupported, match="only in HVM and PVH guests, and this is a PV domain"):
        any_host.xen.domains[1].memory.frames(source="map")


def test_an_unknown_source_is_refused(host: Host) -> None:
    with pytest.raises(ValueError, match="source is 'memlist': expected one of getmemlist2, "):
        host.xen.domains["web1"].memory.frames(source="memlist")


@pytest.mark.parametrize("release", ["sim:ppc64", "sim:xen-3.0"])
def test_a_xen_of_2006_lists_frames_itself(boot: Boot, release: str) -> None:
    host = boot(release)
    found = host.xen.domains["web1"].memory.frames()
    assert found.source == "getmemlist2"
    assert set(found.frames) == host.owned(1)


def test_getmemlist_stands_in_where_its_successor_never_shipped(boot: Boot) -> None:
    host = boot("sim:ppc64-shipped")
    found = host.xen.domains["web1"].memory.frames()
    assert found.source == "getmemlist"
    assert set(found.frames) == host.owned(1)
    with pytest.raises(errors.Unsupported, match="getmemlist2"):
        host.xen.domains["web1"].memory.frames(source="getmemlist2")


def test_a_list_of_gigabytes_goes_through_a_bounded_buffer(boot: Boot) -> None:
    host = boot("sim:ppc64-64g")
    guest = max(host.xen.domains.infos(), key=lambda info: info.tot_pages)
    found = host.xen.domains[guest.domid].memory.frames()
    assert len(found.frames) == guest.tot_pages == 1 << 24
    at = 0
    for run in host.truth.machine.memory_of(guest.domid).runs:
        assert (found.frames[at], found.frames[at + len(run) - 1]) == (run[0], run[-1])
        at += len(run)
    assert host.link.largest_arena <= 1 << 20
