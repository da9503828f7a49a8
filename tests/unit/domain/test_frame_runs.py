# SPDX-License-Identifier: MIT
"""What an address space consists of."""

from __future__ import annotations

from collections import Counter

import pytest
from hosts import Host

from pyxc import FrameRun, errors
from pyxc.abi import memory


def counted(runs: list[FrameRun]) -> Counter[str]:
    found = Counter[str]()
    for run in runs:
        found[run.kind] += run.nr_frames
    return found


@pytest.mark.parametrize("domid", [0, 1, 3])
def test_the_runs_of_a_pv_guest_are_its_p2m(any_host: Host, domid: int) -> None:
    guest = any_host.xen.domains[domid].memory
    runs, p2m, types = list(guest.runs()), guest.p2m(), any_host.truth.machine.types
    assert [run.first for run in runs] == [
        sum(run.nr_frames for run in runs[:place]) for place in range(len(runs))
    ]
    assert sum(run.nr_frames for run in runs) == len(p2m)
    found = counted(runs)
    assert (found["identity"], found["foreign"]) == (len(p2m.identity), len(p2m.foreign.pfns))
    assert found["hole"] == p2m.entries.count(2**64 - 1) - found["identity"] - found["foreign"]
    tables = [run for run in runs if run.kind.endswith("tab")]
    assert sum(run.nr_frames for run in tables) == len(types.keys() & any_host.owned(domid))
    assert [run.kind for run in tables if run.pinned] == ["l4tab"]


def test_the_runs_of_a_translated_guest(host: Host) -> None:
    assert list(host.xen.domains["db1"].memory.runs()) == [
        FrameRun(0, 0x8000, "memory", False, 64),
        FrameRun(0x8000, 0xFEFF8 - 0x8000, "hole", False, 0),
        FrameRun(0xFEFF8, 8, "memory", False, 0),
    ]


def test_a_search_ends_when_all_is_found(host: Host) -> None:
    """Not at the highest frame, which the guest chooses."""
    before = host.link.hypercalls
    list(host.xen.domains["db1"].memory.runs())
    assert host.link.hypercalls - before < 0x8000 // 1024 + 10


@pytest.mark.parametrize("hvm", [False, True])
def test_a_domain_without_memory_has_no_runs(host: Host, hvm: bool) -> None:
    assert list(host.xen.domains.create(hvm=hvm, hap=hvm).memory.runs()) == []


def test_contiguous_machine_memory_of_a_pv_guest(host: Host) -> None:
    machine, owned = host.truth.machine, host.owned(1)
    first = next(mfn for mfn in sorted(owned) if mfn % 512 == 0 and mfn + 511 in owned)
    root = machine.word(host.published(1, "pfn_to_mfn_frame_list_list"), 0)
    machine.memory.write(machine.word(root, 2), 0, machine.words.pack(range(first, first + 512)))
    guest = host.xen.domains[1].memory
    assert sum(run.nr_2m for run in guest.runs()) == 1
    machine.memory.write(machine.word(root, 2), 0, machine.words.pack([first + 1]))
    assert sum(run.nr_2m for run in guest.runs()) == 0


def test_progress_ends_with_all_pages(host: Host) -> None:
    reports: list[tuple[int, int]] = []
    list(host.xen.domains["db1"].memory.runs(progress=lambda done, total: reports.append((done, total))))
    assert reports[-1] == (32776, 32776)


def test_memory_on_demand_is_not_populated(host: Host) -> None:
    host.link.lie(memory.GET_POD_TARGET, pod_entries=5)
    guest = host.xen.domains["db1"].memory
    with pytest.raises(errors.Unsupported, match="would populate 5 pages on demand; force=True"):
        guest.runs()
    assert counted(list(guest.runs(force=True)))["memory"] == 32776


def test_a_type_that_xen_does_not_have(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    web1 = host.xen.domains["web1"].memory
    types = host.truth.machine.types
    monkeypatch.setitem(types, web1.p2m().entries[0], 0x5 << 28)
    with pytest.raises(errors.DecodeError, match="frame 0x0 has the unknown type 0x50000000"):
        list(web1.runs())
