# SPDX-License-Identifier: MIT
"""Guests that pyxc saves and restores: they continue where they were, without Xen's own tools in dom0."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from builds import PATTERN, PATTERN_AT, Build, printed, require, wait_for_text, wait_for_the_end

import pyxc
from pyxc import ShutdownReason
from pyxc.abi.cpu_policy import Policy
from pyxc.guest import stream
from pyxc.guest.built import BuiltDomain
from pyxc.guest.core_file import CoreFile
from pyxc.host.cpu_policy import CpuPolicy

pytestmark = pytest.mark.needs_xen(4, 10)
PVH_HEARTBEAT = 0x102
PATIENCE_S = 60
FEW_PAGES = 60
"""As many as a small PV guest has of page tables and p2m, and its start info, with room."""
POISONED = dict.fromkeys(("error_code", "entry_vector", "saved_upcall_mask"), 0)
"""No registers of a PVH vcpu; a Xen with assertions, as the one with a policy is, fills them with 0xbeef."""
OTHER_UUID = "11111111-2222-4333-8444-555555555555"


def wait_for_a_beat(domain: pyxc.Domain) -> int:
    """Until a spinning guest counts on; returns how far it has come."""
    before = domain.memory.read(PVH_HEARTBEAT, size=4)
    deadline = time.monotonic() + PATIENCE_S
    while (now := domain.memory.read(PVH_HEARTBEAT, size=4)) == before:
        assert time.monotonic() < deadline, "the guest does not run"
        time.sleep(0.01)
    return int.from_bytes(now, "little")


def spinning(build: Build) -> BuiltDomain:
    guest = build("pvh", "pwq", memory_kb=16 << 10)
    guest.unpause()
    wait_for_a_beat(guest)
    return guest


@pytest.mark.parametrize("live", [False, True])
def test_a_pvh_guest_continues(xen: pyxc.Xen, build: Build, tmp_path: Path, live: bool) -> None:
    guest, file = spinning(build), tmp_path / "guest.save"
    saved = guest.save(file, live=live, suspend="force", provenance="none")
    assert saved.pages >= guest.info().tot_pages >= 4104
    assert file.stat().st_size == saved.sent_bytes < (18 << 20)
    beats = int.from_bytes(guest.memory.read(PVH_HEARTBEAT, size=4), "little")
    registers = guest.vcpu(0).context()
    with pytest.raises(ValueError, match="give the new one another"):
        xen.restore(file)
    again = xen.restore(file, paused=True, uuid=OTHER_UUID)
    try:
        assert again.info().tot_pages == guest.info().tot_pages
        assert again.memory.read(PATTERN_AT["pvh"]) == PATTERN
        unused = POISONED if xen.flask.present else {}
        assert again.vcpu(0).context().replace(**unused) == registers.replace(**unused)
        assert printed(again) == b""
        again.unpause()
        assert wait_for_a_beat(again) > beats
    finally:
        again.destroy()


@pytest.mark.parametrize("name", ["pv", "pv32"])
def test_a_pv_guest_continues(xen: pyxc.Xen, build: Build, tmp_path: Path, name: str) -> None:
    require(xen, name)
    guest, file = build(name, "mfpspwq", memory_kb=16 << 10), tmp_path / "guest.save"
    guest.unpause()
    assert wait_for_the_end(guest) is ShutdownReason.SUSPEND
    saved = guest.save(file, provenance="none")
    assert (saved.pages, guest.info().tot_pages) == (4096, 4096)
    before = guest.vcpu(0).context()
    again = xen.restore(file, paused=True, uuid=OTHER_UUID)
    try:
        assert again.info().tot_pages == 4096
        now = again.vcpu(0).context()
        moved = {"rdx", "edx", "cr3"}
        assert {name: now[name] for name in now if name not in moved} == {
            name: before[name] for name in before if name not in moved
        }
        again.unpause()
        wait_for_text(again, b"line 2", PATIENCE_S)
    finally:
        again.destroy()


@pytest.mark.parametrize("name", ["pv", "pv32", "pvh"])
def test_a_dump_of_a_restored_guest(xen: pyxc.Xen, build: Build, tmp_path: Path, name: str) -> None:
    """Also before it has run, when nothing but pyxc has updated its p2m: all pages, nearly all unchanged."""
    require(xen, name)
    if name == "pvh":
        guest = spinning(build)
    else:
        guest = build(name, "mfpspwq", memory_kb=16 << 10)
        guest.unpause()
        assert wait_for_the_end(guest) is ShutdownReason.SUSPEND
    guest.save(
        tmp_path / "guest.save",
        suspend="force" if name == "pvh" else "ask",
        live=name == "pvh",
        provenance="none",
    )
    again = xen.restore(tmp_path / "guest.save", paused=True, uuid=OTHER_UUID)
    try:
        before, now = (dumped(domain, tmp_path) for domain in (guest, again))
    finally:
        again.destroy()
    assert now.keys() == before.keys()
    assert now[PATTERN_AT[name]] == PATTERN
    assert sum(now[gfn] != before[gfn] for gfn in now) < FEW_PAGES


def test_a_guest_with_memory_above_4_gib(xen: pyxc.Xen, build: Build, tmp_path: Path) -> None:
    """And a hole of 5 GiB below it, which takes no space in a dump or a saved guest."""
    guest, high = spinning(build), range(0x140000, 0x140010)
    guest.set_max_memory(20 << 10)
    guest.memory.populate(high)
    guest.memory.write(high[-1], b"high up")
    pages = dumped(guest, tmp_path)
    assert pages[high[-1]][:7] == b"high up"
    assert set(high) < set(pages) and len(pages) == guest.info().tot_pages
    guest.save(tmp_path / "guest.save", live=True, suspend="force", provenance="none")
    for file in ("dump", "guest.save"):
        assert (tmp_path / file).stat().st_size < (20 << 20)
    again = xen.restore(tmp_path / "guest.save", uuid=OTHER_UUID)
    try:
        assert again.memory.read(high[-1], size=7) == b"high up"
        assert again.info().tot_pages == guest.info().tot_pages
        wait_for_a_beat(again)
    finally:
        again.destroy()


def dumped(domain: pyxc.Domain, directory: Path) -> dict[int, bytes]:
    """The pages in a dump of a domain, by gfn."""
    domain.dump_core(directory / "dump", provenance="none", replace=True)
    with CoreFile(directory / "dump") as core:
        return {gfn: core.read(gfn) for part in core.ranges() for gfn in part}


def test_a_guest_is_saved_and_runs_on(build: Build, tmp_path: Path) -> None:
    guest = spinning(build)
    guest.save(tmp_path / "guest.save", suspend="force", provenance="none", resume=True)
    wait_for_a_beat(guest)
    with pytest.raises((pyxc.GuestUnable, pyxc.StoreError)):
        guest.save(tmp_path / "other.save", provenance="none")
    wait_for_a_beat(guest)
    assert not (tmp_path / "other.save").exists()


def test_a_save_that_fails_leaves_the_guest_running(build: Build) -> None:
    guest = spinning(build)
    for live in (False, True):
        with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
            guest.save(full, live=live, suspend="force")
        wait_for_a_beat(guest)
    guest.shutdown(ShutdownReason.SUSPEND)


def test_two_of_one_guest(xen: pyxc.Xen, build: Build, tmp_path: Path) -> None:
    guest = spinning(build)
    guest.save(tmp_path / "guest.save", suspend="force", provenance="none", resume=True)
    twin = xen.restore(tmp_path / "guest.save", uuid=OTHER_UUID)
    try:
        wait_for_a_beat(twin)
        wait_for_a_beat(guest)
    finally:
        twin.destroy()


def test_clones_of_a_template_that_are_put_back(xen: pyxc.Xen, build: Build, tmp_path: Path) -> None:
    """They begin where the guest was saved; a revert brings one back there, and it runs again."""
    spinning(build).save(tmp_path / "guest.save", suspend="force", provenance="none")
    template = xen.template(tmp_path / "guest.save")
    first, second = template.start(revertible=True, paused=True), template.start()
    try:
        beats = first.memory.read(PVH_HEARTBEAT, size=4)
        registers = first.vcpu(0).context()
        for _ in range(3):
            first.unpause()
            assert wait_for_a_beat(first) > int.from_bytes(beats, "little")
            first.pause()
            assert 1 <= template.revert(first) < 100
            assert first.memory.read(PVH_HEARTBEAT, size=4) == beats
            assert first.vcpu(0).context() == registers
        wait_for_a_beat(second)
    finally:
        first.destroy()
        second.destroy()


@pytest.mark.needs_xen(4, 13)
def test_a_guest_of_another_processor_is_refused(xen: pyxc.Xen, build: Build, tmp_path: Path) -> None:
    """What it has seen and this host lacks is named; no processor is AMD's and Intel's at once."""
    spinning(build).save(tmp_path / "guest.save", suspend="force", provenance="none")
    here = [xen.cpu_policies.host(policy) for policy in (Policy.HOST, Policy.HVM_MAX)]
    lacking = next(name for name in ("avx512f", "sgx", "fma4") if not any(one.has(name) for one in here))

    def elsewhere(event: stream.Event) -> stream.Event:
        if not isinstance(event, stream.CpuidPolicy):
            return event
        return stream.CpuidPolicy(CpuPolicy(event.leaves, ()).with_({lacking: True}).leaves)

    reader, writer = stream.Reader(), stream.Writer()
    before = set(xen.domains)
    with open(tmp_path / "other.save", "wb") as file:
        for event in reader.feed((tmp_path / "guest.save").read_bytes()):
            file.writelines(writer.encode(elsewhere(event)))
    with pytest.raises(pyxc.Unsupported, match=f"that this host lacks: {lacking}$"):
        xen.restore(tmp_path / "other.save", uuid=OTHER_UUID)
    assert set(xen.domains) == before
