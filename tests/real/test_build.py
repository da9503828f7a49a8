# SPDX-License-Identifier: MIT
"""Guests that pyxc builds: they boot, print, and end, with nothing of Xen's own tools in dom0."""

from __future__ import annotations

import pytest
from builds import (
    PATIENCE_S,
    PATTERN,
    PATTERN_AT,
    Build,
    printed,
    wait_for_memory,
    wait_for_text,
    wait_for_the_end,
)

import pyxc
from pyxc import PageType, ShutdownReason
from pyxc.abi.cpu_policy import Policy
from pyxc.abi.domctl import PAGE_PINNED

pytestmark = pytest.mark.needs_xen(4, 10)
ROUNDS = 50


def test_a_pvh_guest_boots_prints_and_ends(build: Build) -> None:
    guest = build("pvh", "ppq", memory_kb=16 << 10)
    assert guest.kind == "pvh"
    assert guest.info().paused
    assert printed(guest) == b""
    assert guest.memory.read(PATTERN_AT["pvh"]) == PATTERN
    guest.unpause()
    assert wait_for_the_end(guest) is ShutdownReason.POWEROFF
    assert printed(guest) == b"pyxc PVH guest: line 1\r\npyxc PVH guest: line 2\r\n"


def test_a_pv_guest_boots_prints_and_ends(build: Build) -> None:
    guest = build("pv", "pmpq", memory_kb=16 << 10)
    assert guest.kind == "pv"
    assert printed(guest) == b""
    guest.unpause()
    assert wait_for_the_end(guest) is ShutdownReason.POWEROFF
    assert printed(guest) == b"pyxc PV guest: line 1\r\npyxc PV guest: line 2\r\n"
    p2m = guest.memory.p2m()
    assert len(p2m.entries) == guest.info().tot_pages == 4096
    assert guest.memory.read(p2m.entries[PATTERN_AT["pv"]]) == PATTERN


def test_page_tables_of_a_pv_guest_are_what_xen_makes_of_them(build: Build) -> None:
    guest = build("pv", "mpb", memory_kb=8 << 10)
    guest.unpause()
    wait_for_text(guest, b"line 1", PATIENCE_S)
    guest.pause()
    root = guest.vcpu(0).context()["cr3"] >> 12
    found = guest.memory.frames(types=True)
    types = dict(zip(found.frames, found.types))
    assert types[root] == (PageType.L4TAB | PAGE_PINNED) >> 28
    assert sorted(kind & 7 for kind in types.values() if kind) == [1, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_many_guests_one_after_the_other_leave_nothing(xen: pyxc.Xen, build: Build, kind: str) -> None:
    build(kind, "q", memory_kb=16 << 10).destroy()
    free = xen.physinfo().free_memory_kb
    for _ in range(ROUNDS):
        build(kind, "q", memory_kb=16 << 10).destroy()
    wait_for_memory(xen, free - 64)


@pytest.mark.needs_xen(4, 13)
@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_a_guest_that_sees_fewer_features(xen: pyxc.Xen, build: Build, kind: str) -> None:
    policy = xen.cpu_policies.host(Policy.HVM_DEFAULT if kind == "pvh" else Policy.PV_DEFAULT)
    assert policy.has("sse3")
    guest = build(kind, "pq", memory_kb=16 << 10, cpu_policy=policy.with_(sse3=False))
    assert not guest.cpu_policy().has("sse3")
    guest.unpause()
    assert wait_for_the_end(guest) is ShutdownReason.POWEROFF


def test_a_pvh_guest_that_gets_its_memory_when_it_needs_it(build: Build) -> None:
    guest = build("pvh", "pq", memory_kb=16 << 10, max_memory_kb=64 << 10)
    assert guest.info().tot_pages < 5000
    guest.unpause()
    assert wait_for_the_end(guest) is ShutdownReason.POWEROFF
    assert printed(guest) == b"pyxc PVH guest: line 1\r\n"
