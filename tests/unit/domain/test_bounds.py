# SPDX-License-Identifier: MIT
"""What a guest says of itself costs dom0 no more than an honest guest of its size would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from array import array
from pathlib import Path

import hostile
import pytest
from emulation import needs_the_kernel
from hostile import ABSENT, FOREIGN, IDENTITY, PV
from hosts import Boot, Host

from pyxc import errors
from pyxc.domain.hvm_context import HvmContext
from pyxc.domain.mapping import Mapping
from pyxc.domain.p2m import read_pages

FREE_BYTES, PER_OWNED = 16 << 20, 4


def test_a_p2m_as_large_as_an_honest_guest_can_have_is_read(host: Host) -> None:
    pfns = hostile.most_pfns(host.truth)
    hostile.tables(host.truth, pfns, [ABSENT])
    p2m = host.xen.domains[PV].memory.p2m()
    assert (len(p2m.entries), p2m.entries.count(ABSENT)) == (pfns, pfns)


def test_a_p2m_that_is_larger_is_not(host: Host) -> None:
    pfns = hostile.most_pfns(host.truth) + 1
    hostile.tables(host.truth, pfns, [ABSENT])
    memory = host.xen.domains[PV].memory
    for read in (memory.p2m, memory.frames):
        with pytest.raises(errors.Unsupported, match=f"claims {pfns} pfns, too many for its 8192 pages"):
            read()


def test_entries_that_are_not_its_own_have_an_end(host: Host) -> None:
    memory = host.xen.domains[PV].memory
    for entry in (FOREIGN | 5, IDENTITY | 5):
        hostile.tree(host.truth, 300_000, [entry])
        found = memory.p2m()
        assert len(found.identity) + len(found.foreign.pfns) == 300_000
        hostile.tree(host.truth, hostile.most_pfns(host.truth), [entry])
        with pytest.raises(
            errors.DecodeError, match="more than 655360 entries for memory that is not its own"
        ):
            memory.p2m()


def test_holes_between_pages_of_entries_are_where_they_are(host: Host) -> None:
    hostile.patchwork(host.truth, 3000)
    found = host.xen.domains[PV].memory.p2m()
    wanted = [pfn for pfn in range(3000) if pfn // 512 % 2 == 0 and pfn % 2]
    assert list(found.identity) == wanted
    assert set(found.entries) == {ABSENT}


def test_a_dump_has_no_more_pages_than_the_guest_owns(host: Host, tmp_path: Path) -> None:
    hostile.tree(host.truth, 400_000, [hostile.own_frames(host.truth)[0]])
    with pytest.raises(errors.DecodeError, match="lists more frames than the 8192 that it owns"):
        host.xen.domains[PV].dump_core(tmp_path / "core", provenance="none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("release", ["3.4", "4.17"])
def test_a_page_far_up_is_only_looked_for_when_that_is_wanted(boot: Boot, release: str) -> None:
    host = boot(release)
    hostile.high_memory(host.truth, 1 << 23)
    guest, before = host.xen.domains["db1"].memory, host.link.hypercalls
    with pytest.raises(errors.Unsupported, match=r"1 of its \d+ pages are somewhere between .*force=True"):
        guest.frames()
    assert host.link.hypercalls - before < 4096
    found = guest.frames(force=True)
    assert set(found.frames) == set(host.truth.domains[2].p2m)


def test_frames_of_a_translated_guest_come_in_order(host: Host) -> None:
    found = list(host.xen.domains["db1"].memory.frames().frames)
    assert found == sorted(found)


def test_a_page_at_the_top_is_found_wherever_that_is(host: Host) -> None:
    domain = host.truth.domains[2]
    domain.p2m[1 << 36] = domain.p2m.pop(domain.highest_gfn)
    domain.highest_gfn = 1 << 36
    found = host.xen.domains["db1"].memory.frames()
    assert found.frames[-1] == 1 << 36
    assert len(found.frames) == domain.tot_pages


def test_the_bits_of_dirty_pages_have_an_end(host: Host) -> None:
    hostile.high_memory(host.truth, 1 << 36)
    with host.xen.domains["db1"].log_dirty as log:
        for read in (log.peek, log.clean):
            with pytest.raises(errors.DecodeError, match=f"reports {(1 << 36) + 1} frames"):
                read()
        assert log.peek(pages=100).pages == 100
    assert host.link.largest_arena < 1 << 20


def test_a_pv_guest_that_claims_frames_gets_no_bitmap(host: Host) -> None:
    hostile.publish(host.truth, PV, max_pfn=2**40)
    with pytest.raises(errors.DecodeError, match=f"reports {2**40} frames"):
        host.xen.domains[PV].log_dirty.peek()


def test_a_context_of_empty_records_takes_no_more_memory_than_itself(host: Host) -> None:
    real = bytes(host.xen.domains["db1"].hvm_context.read())
    empty = b"\xff\x7f\0\0\0\0\0\0"
    padded = real[:-8] + empty * 50_000 + real[-8:]
    context = HvmContext(padded, host.xen.interface)
    assert len(context) == len(list(context)) == len(HvmContext(real, host.xen.interface)) + 50_000
    assert [record.instance for record in context][-2:] == [0, 0]


# What it takes, on resident memory: in a process of its own, whose heap keeps nothing from tests before.

_CHILD = """
import io, json, sys
import cost, hostile, pyxc
from pyxc import errors, sim
from pyxc.guest.core_dump import _Writer

BOMBS = {
    "foreign": lambda host: hostile.tree(host, hostile.most_pfns(host), [hostile.FOREIGN | 5]),
    "half foreign": lambda host: hostile.tree(host, 260_000, [hostile.FOREIGN | 5, hostile.ABSENT]),
    "identity": lambda host: hostile.tables(host, hostile.most_pfns(host), [hostile.IDENTITY]),
    "one page": lambda host: hostile.tree(host, hostile.most_pfns(host), [hostile.own_frames(host)[0]]),
    "holes": lambda host: hostile.patchwork(host, hostile.most_pfns(host)),
    "nothing": lambda host: hostile.tables(host, hostile.most_pfns(host), [hostile.ABSENT]),
}
QUESTIONS = {
    "p2m": lambda domain: domain.memory.p2m(),
    "frames": lambda domain: domain.memory.frames(),
    "dump": lambda domain: domain.dump_core(sys.argv[1] + "/core", provenance="none"),
    "resume": lambda domain: domain.resume(fast=False),
}

def guest(pages, trick):
    host = sim.Hypervisor(sim.named("sim:xen-4.17"))
    domain = pyxc.connect(host.connect()).domains[hostile.PV]
    hostile.shrink(host, pages)
    hostile.suspend(host, hostile.own_frames(host)[5])
    trick(host)
    return domain

def taken(pages, bomb, question):
    domain = guest(pages, BOMBS[bomb])
    with cost.measured() as found:
        try:
            QUESTIONS[question](domain)
        except (errors.Unsupported, errors.DecodeError):
            pass
    return found.peak_bytes

def large(pages):
    domain = guest(pages, lambda host: hostile.tree(host, pages, [hostile.own_frames(host)[0]]))
    with cost.measured() as found:
        writer = _Writer(domain, domain.info(), False)
        writer._write_frames(io.BufferedWriter(io.FileIO("/dev/null", "w")), 5)
    return found.peak_bytes

taken(1, "one page", "p2m")
print(json.dumps({
    "small": {f"{bomb}, {question}": taken(1, bomb, question) for bomb in BOMBS for question in QUESTIONS},
    "build": {f"{bomb}, {question}": taken(8192, bomb, question) for bomb in BOMBS for question in QUESTIONS},
    "large": large(1 << 20),
}))
"""


@needs_the_kernel
def test_resident_memory(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path)],
        capture_output=True,
        check=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "MALLOC_MMAP_THRESHOLD_": "65536",  # what is freed goes back to the kernel at once
        },
    )
    taken = json.loads(run.stdout)
    for which, pages in (("small", 1), ("build", 8192)):
        most = FREE_BYTES + PER_OWNED * 4096 * pages
        assert {name: size for name, size in taken[which].items() if size > most} == {}
    assert taken["large"] < FREE_BYTES + 20 * (1 << 20), "16 bytes for each page, and buffers"


def test_the_lists_of_a_large_guest_come_in_pieces(host: Host) -> None:
    """A 32-bit process may not have enough address space for one of them in one piece."""
    pages = 1 << 20
    hostile.shrink(host.truth, pages)
    hostile.tree(host.truth, pages, [hostile.own_frames(host.truth)[0]])
    domain = host.xen.domains[PV]
    found = read_pages(Mapping(domain), domain.info())
    assert sum(len(part.frames) for part in found) == sum(len(part.pfns) for part in found) == pages
    assert all(isinstance(column, array) for part in found for column in part)
    assert max(len(part.pfns) for part in found) <= 1 << 18
