# SPDX-License-Identifier: MIT
"""Registers, memory and frames of guests, against xenctx, xen-mfndump and what the guests are known for."""

from __future__ import annotations

import struct
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ground_truth import Guests, Peer, machine_to_physical

import pyxc
from pyxc import HvmParam, PageType
from pyxc.abi.domctl import PAGE_PINNED
from pyxc.domain.p2m import ABSENT

PV_REGISTERS = {f"r{number}": 0x7079786372313021 + ((number % 10) << 8) for number in (12, 13, 14, 15)}
PVH_REGISTERS = {"rsi": 0x70796573, "rdi": 0x70796564, "rbp": 0x70796562}
PATTERN = array("Q", (0x7079786300000000 + index for index in range(512))).tobytes()
PV_PATTERN, PV_HEARTBEAT = 1, 2
PVH_PATTERN, PVH_HEARTBEAT = 0x101, 0x102
PINNED_L4 = (PageType.L4TAB | PAGE_PINNED) >> 28
PV_GUESTS = pytest.mark.parametrize("name", ["pv", "linux"])


@pytest.fixture
def domain(xen: pyxc.Xen, guests: Guests, request: pytest.FixtureRequest) -> pyxc.Domain:
    """The guest that the test's parameter "name" names."""
    return xen.domains[guests.domids[request.getfixturevalue("name")]]


@contextmanager
def _running(domain: pyxc.Domain) -> Iterator[None]:
    domain.unpause()
    try:
        yield
    finally:
        domain.pause()


@pytest.mark.parametrize(("name", "known"), [("pv", PV_REGISTERS), ("pvh", PVH_REGISTERS)])
def test_known_registers(domain: pyxc.Domain, name: str, known: dict[str, int]) -> None:
    context = domain.vcpu(0).context()
    assert {register: context[register] for register in known} == known


@pytest.mark.parametrize("name", ["pv", "linux", "pvh"])
def test_registers_as_xenctx_shows_them(peer: Peer, domain: pyxc.Domain, name: str) -> None:
    context = domain.vcpu(0).context()
    shown = peer.registers(domain.domid)
    prefix = "e" if name == "pvh" else "r"
    names = {f"{prefix}{part}": f"r{part}" for part in ("ip", "sp", "ax", "bx", "cx", "dx", "si", "di", "bp")}
    names |= (
        {"flags": "rflags"} | {f"cr{n}": f"cr{n}" for n in (0, 3, 4)} | {f"dr{n}": f"dr{n}" for n in (6, 7)}
    )
    if name != "pvh":
        names |= {f"r{n}": f"r{n}" for n in range(8, 16)} | {"cs": "cs", "ss": "ss"}
    assert {theirs: context[ours] for theirs, ours in names.items()} == {
        theirs: shown[theirs] for theirs in names
    }


@pytest.mark.parametrize("name", ["pv", "linux"])
def test_both_forms_of_the_p2m(peer: Peer, domain: pyxc.Domain, name: str) -> None:
    linear, tree = domain.memory.p2m("p2m_vaddr"), domain.memory.p2m("frame_list_list")
    assert (linear.source, tree.source) == ("p2m_vaddr", "frame_list_list")
    assert linear.entries == tree.entries
    dumped = peer.p2m(domain.domid)
    assert dumped
    assert {pfn: linear.entries[pfn] for pfn in dumped} == dumped


@PV_GUESTS
def test_frames_of_a_pv_guest(xen: pyxc.Xen, domain: pyxc.Domain, name: str) -> None:
    found = domain.memory.frames()
    p2m = domain.memory.p2m()
    assert (found.source, found.translated) == ("p2m_vaddr", False)
    assert len(set(found.frames)) == len(found.frames) == domain.info().tot_pages
    assert set(found.frames) == set(p2m.entries) - {ABSENT}
    table = machine_to_physical(xen, xen.physinfo())
    assert all(table[frame] == pfn for pfn, frame in enumerate(p2m.entries) if frame != ABSENT)


@PV_GUESTS
def test_page_tables_are_typed_and_the_top_is_pinned(domain: pyxc.Domain, name: str) -> None:
    found = domain.memory.frames(types=True)
    assert found.types is not None
    kind_of = dict(zip(found.frames, found.types))
    assert len(kind_of) == domain.info().tot_pages
    assert kind_of[domain.vcpu(0).context()["cr3"] >> 12] == PINNED_L4
    kinds = {kind & 7 for kind in kind_of.values()}
    assert kinds == {
        kind >> 28
        for kind in (PageType.NOTAB, PageType.L1TAB, PageType.L2TAB, PageType.L3TAB, PageType.L4TAB)
    }


@pytest.mark.parametrize("name", ["pvh"])
def test_frames_of_the_pvh_guest(domain: pyxc.Domain, name: str) -> None:
    found = domain.memory.frames()
    assert (found.source, found.translated) == ("getpageframeinfo3", True)
    assert len(set(found.frames)) == len(found.frames) == domain.info().tot_pages
    assert set(range(0x100)) <= set(found.frames)
    assert max(found.frames) == domain.memory.maximum_gpfn()


def _frame(domain: pyxc.Domain, number: int) -> int:
    """What to map for a pfn: the guest's own number of a translated guest."""
    return number if domain.info().is_hvm else domain.memory.p2m().entries[number]


@pytest.mark.parametrize(
    ("name", "pattern", "heartbeat"), [("pv", PV_PATTERN, PV_HEARTBEAT), ("pvh", PVH_PATTERN, PVH_HEARTBEAT)]
)
def test_memory_of_a_small_guest(domain: pyxc.Domain, name: str, pattern: int, heartbeat: int) -> None:
    assert domain.memory.read(_frame(domain, pattern)) == PATTERN
    with domain.memory.map(_frame(domain, heartbeat), writable=True) as mapped, memoryview(mapped) as page:
        words = page.cast("I")
        still = words[0]
        assert still == words[0]
        with _running(domain):
            _until_changed(words, still)
        words[0] = 0x40000000
        with _running(domain):
            _until_changed(words, 0x40000000)
        assert 0x40000000 < words[0] < 0xC0000000
        words.release()


def _until_changed(words: memoryview, value: int) -> None:
    deadline = time.monotonic() + 30
    while words[0] == value:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("name", "text"), [("pv", b"pyxc PV guest: line 1"), ("pvh", b"pyxc PVH guest: line 1")]
)
def test_console_ring(peer: Peer, domain: pyxc.Domain, name: str, text: bytes) -> None:
    frame = int(peer.read_store(f"/local/domain/{domain.domid}/console/ring-ref"))
    if name == "pvh":
        assert frame == domain.hvm_params.read(HvmParam.CONSOLE_PFN)
    ring = domain.memory.read(frame)
    consumed, produced = struct.unpack_from("II", ring, 3080)
    assert consumed == produced == len(text) + 2
    assert ring[1024 : 1024 + len(text)] == text


@pytest.mark.parametrize("name", ["linux"])
def test_linux_guest_has_its_command_line_where_it_was_told(domain: pyxc.Domain, name: str) -> None:
    """start_info lies in one of the guest's frames: magic at its start, the command line at 128."""
    p2m = domain.memory.p2m()
    with (
        domain.memory.map(frame for frame in p2m.entries if frame != ABSENT) as mapped,
        memoryview(mapped) as view,
    ):
        found = [
            bytes(view[start + 128 : start + 128 + 20])
            for start in range(0, len(view), 4096)
            if view[start : start + 14] == b"xen-3.0-x86_64"
        ]
    assert b"console=hvc0 quiet\0" in {text[:19] for text in found}


@pytest.mark.parametrize("name", ["pvh", "linux"])
def test_pages_that_a_running_guest_writes(xen: pyxc.Xen, domain: pyxc.Domain, name: str) -> None:
    if not domain.info().is_hvm and pyxc.Capability.SHADOW not in xen.platform:
        with pytest.raises(pyxc.Unsupported):
            domain.log_dirty.enable()
        return
    with domain.log_dirty as log:
        assert log.clean().dirty == 0
        with _running(domain):
            time.sleep(0.5)
        pages = log.peek()
        assert 0 < pages.dirty == len(pages.frames()) < domain.info().tot_pages
        assert log.clean(final=True).bitmap == pages.bitmap
        assert log.clean().dirty == 0
        if name == "pvh":
            assert PVH_HEARTBEAT in pages.frames()


@pytest.mark.parametrize("name", ["pvh"])
def test_registers_are_in_the_hvm_context(domain: pyxc.Domain, name: str) -> None:
    rip = domain.vcpu(0).context()["rip"].to_bytes(8, "little")
    assert rip in bytes(domain.hvm_context.read().record(pyxc.HvmRecordType.CPU))


@pytest.mark.parametrize("name", ["pvh"])
def test_a_suspended_guest_goes_on_where_it_was(domain: pyxc.Domain, name: str) -> None:
    """The guest has no drivers, and does not know that it was suspended."""
    for fast in (True, False, None):
        domain.shutdown(pyxc.ShutdownReason.SUSPEND)
        registers = domain.vcpu(0).context()
        domain.resume(fast=fast)
        assert domain.info().shutdown_reason is None
        assert domain.vcpu(0).context()["rip"] == registers["rip"]
    before = domain.memory.read(PVH_HEARTBEAT, size=8)
    with _running(domain):
        time.sleep(0.3)
    assert domain.memory.read(PVH_HEARTBEAT, size=8) != before


@pytest.fixture
def suspender(xen: pyxc.Xen, peer: Peer) -> Iterator[pyxc.Domain]:
    """A PV guest that suspends itself after its first and its second line, and then spins."""
    peer.create("pv", 'name="suspender"', 'cmdline="mfpspspw"')
    domain = xen.domains[peer.domid("suspender")]
    yield domain
    peer.xl("destroy", "suspender")


def _wait_until_suspended(domain: pyxc.Domain) -> None:
    deadline = time.monotonic() + 60
    while domain.info().shutdown_reason is not pyxc.ShutdownReason.SUSPEND:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_guest_that_suspended_itself_is_told_how_it_goes_on(peer: Peer, suspender: pyxc.Domain) -> None:
    """It prints its next line only if it finds its console: told as it was, or by what it was told."""

    def returned() -> int:
        page = suspender.memory.p2m().entries[PV_HEARTBEAT]
        return int.from_bytes(suspender.memory.read(page, 8, 8), "little")

    for fast, line, told in ((True, "line 2", 1), (False, "line 3", 0)):
        _wait_until_suspended(suspender)
        suspender.resume(fast=fast)
        peer.wait_for("suspender", line)
        assert returned() == told
    assert suspender.info().shutdown_reason is None
