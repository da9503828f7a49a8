# SPDX-License-Identifier: MIT
"""32-bit PV guests, on a Xen that has them."""

from __future__ import annotations

from array import array

import pytest
from builds import PATIENCE_S, PATTERN, PATTERN_AT, Build, printed, require, wait_for_text, wait_for_the_end

import pyxc
from pyxc import PageType, ShutdownReason
from pyxc.abi.domctl import PAGE_PINNED


@pytest.fixture(autouse=True)
def _has_32_bit_guests(xen: pyxc.Xen) -> None:
    require(xen, "pv32")


def test_it_boots_prints_and_ends(build: Build) -> None:
    guest = build("pv32", "pypq", memory_kb=16 << 10)
    assert (guest.kind, guest.guest_bits()) == ("pv", 32)
    assert guest.vcpu(0).context().width == 32
    guest.unpause()
    assert wait_for_the_end(guest) is ShutdownReason.POWEROFF
    assert printed(guest) == b"pyxc PV32 guest: line 1\r\npyxc PV32 guest: line 2\r\n"


def test_its_frames_and_p2m(build: Build) -> None:
    guest = build("pv32", "fpb", memory_kb=16 << 10)
    guest.unpause()
    wait_for_text(guest, b"line 1", PATIENCE_S)
    guest.pause()
    p2m = guest.memory.p2m()
    assert (p2m.source, len(p2m.entries)) == ("frame_list_list", 4096)
    assert guest.memory.read(p2m.entries[PATTERN_AT["pv32"]]) == PATTERN
    found = guest.memory.frames(types=True)
    assert array("Q", sorted(found.frames)) == array("Q", sorted(p2m.entries))
    types = dict(zip(found.frames, found.types))
    context = guest.vcpu(0).context()
    cr3 = context["cr3"]
    assert types[(cr3 >> 12 | cr3 << 20) & 0xFFFFFFFF] == (PageType.L3TAB | PAGE_PINNED) >> 28
    assert (context["esi"], context["edi"], context["ebp"]) == (0x70796573, 0x70796564, 0x70796562)
