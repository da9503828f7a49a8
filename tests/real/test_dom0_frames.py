# SPDX-License-Identifier: MIT
"""dom0's own p2m and frames, against Xen's table the other way round and what the kernel says."""

from __future__ import annotations

import ctypes
import mmap
from itertools import compress, count
from operator import ne

import pytest
from ground_truth import machine_to_physical, own_frame

import pyxc
from pyxc.domain.p2m import ABSENT


@pytest.fixture(scope="module")
def p2m(xen: pyxc.Xen) -> pyxc.P2m:
    return xen.domains[0].memory.p2m()


def test_both_forms_agree(xen: pyxc.Xen, p2m: pyxc.P2m) -> None:
    assert p2m.source == "p2m_vaddr"
    tree = xen.domains[0].memory.p2m("frame_list_list")
    assert tree.source == "frame_list_list"
    assert tree.entries == p2m.entries
    assert tree.identity == p2m.identity


def test_as_many_entries_as_pages(xen: pyxc.Xen, p2m: pyxc.P2m) -> None:
    valid = len(p2m.entries) - p2m.entries.count(ABSENT)
    assert valid == xen.domains[0].info().tot_pages


def test_frame_list_is_the_plain_entries(xen: pyxc.Xen, p2m: pyxc.P2m) -> None:
    found = xen.domains[0].memory.frames()
    assert (found.source, found.translated, found.types) == ("p2m_vaddr", False, None)
    assert set(found.frames) == set(p2m.entries) - {ABSENT}
    assert len(found.frames) == xen.domains[0].info().tot_pages


def test_xen_has_the_same_the_other_way_round(xen: pyxc.Xen, p2m: pyxc.P2m) -> None:
    table = machine_to_physical(xen, xen.physinfo())
    present = list(map(ABSENT.__ne__, p2m.entries))
    frames, pfns = compress(p2m.entries, present), compress(count(), present)
    assert sum(map(ne, map(table.__getitem__, frames), pfns)) == 0


def test_identity_entries_are_set_apart(p2m: pyxc.P2m) -> None:
    assert p2m.identity
    assert all(p2m.entries[pfn] == ABSENT for pfn in p2m.identity)
    assert list(p2m.foreign.pfns) == []


def test_own_page_is_found_in_dom0s_memory(xen: pyxc.Xen, p2m: pyxc.P2m) -> None:
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        page[:16] = b"seen from Xen: 1"
        pin = ctypes.c_char.from_buffer(page)
        frame = p2m.entries[own_frame(ctypes.addressof(pin))]
        assert xen.domains[0].memory.read(frame, 0, 16) == b"seen from Xen: 1"
        xen.domains[0].memory.write(frame, b"2", 15)
        assert page[:16] == b"seen from Xen: 2"
        del pin
