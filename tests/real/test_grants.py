# SPDX-License-Identifier: MIT
"""Grants through the kernel's devices, from a 32-bit process through the gate."""

from __future__ import annotations

import errno
import time

import pytest
from builds import in_use

import pyxc
from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.abi import domctl
from pyxc.abi.grant_table import Reserved


def test_dom0_lends_to_itself(xen: pyxc.Xen) -> None:
    before = in_use()
    dom0 = xen.domains[0]
    lent = dom0.grants.lend(2, writable=True)
    with lent.pages, dom0.grants.map(lent.refs, writable=True) as mapped:
        with memoryview(lent.pages) as ours, memoryview(mapped) as theirs:
            assert bytes(ours) == bytes(2 * PAGE_SIZE)
            ours[PAGE_SIZE : PAGE_SIZE + 5] = b"hello"
            theirs[:3] = b"you"
            assert (bytes(theirs[PAGE_SIZE : PAGE_SIZE + 5]), bytes(ours[:3])) == (b"hello", b"you")
        assert in_use() == (before[0], before[1] + 2)
        assert len(xen.link.maps) == 2
    assert in_use() == before
    with pytest.raises(errors.HypercallError, match="gntdev.map on domain 0 failed: EINVAL"):
        dom0.grants.map(lent.refs)


def test_pages_lent_to_be_read_are_not_written(xen: pyxc.Xen) -> None:
    dom0 = xen.domains[0]
    lent = dom0.grants.lend()
    with lent.pages:
        with dom0.grants.map(lent.refs) as mapped, memoryview(mapped) as view:
            assert view.readonly
        with pytest.raises(errors.HypercallError, match="EINVAL"):
            dom0.grants.map(lent.refs, writable=True)


def test_what_is_not_lent(pv: pyxc.Domain) -> None:
    before = in_use()
    for refs in ([0], [4000], [2**32 - 1]):
        with pytest.raises(errors.HypercallError) as caught:
            pv.grants.map(refs)
        assert caught.value.errno == errno.EINVAL
    assert in_use() == before


@pytest.mark.needs_xen(4, 11)
def test_rings_of_a_new_domain(pv: pyxc.Domain) -> None:
    console, store = pv.memory.populate([0, 1])
    pv.memory.write(console, b"console ring")
    pv.memory.write(store, b"xenstore ring")
    pv.grants.seed(console=console, store=store)
    both = [Reserved.CONSOLE, Reserved.XENSTORE]
    with pv.grants.map(both, writable=True) as rings, memoryview(rings) as view:
        assert bytes(view[:12]) == b"console ring"
        assert bytes(view[PAGE_SIZE : PAGE_SIZE + 13]) == b"xenstore ring"
        view[:7] = b"CONSOLE"
    assert pv.memory.read(console, size=12) == b"CONSOLE ring"


@pytest.mark.needs_xen(4, 11)
def test_rings_of_a_new_translated_domain(pvh: pyxc.Domain) -> None:
    pvh.memory.populate([0x10])
    pvh.memory.write(0x10, b"console ring")
    pvh.grants.seed(console=0x10)
    with pvh.grants.map(Reserved.CONSOLE) as ring, memoryview(ring) as view:
        assert bytes(view[:12]) == b"console ring"


@pytest.mark.needs_xen(4, 11)
def test_a_ring_for_another_domain(pv: pyxc.Domain) -> None:
    (console,) = pv.memory.populate([0])
    pv.grants.seed(console=console, console_domid=0x7000)
    with pytest.raises(errors.HypercallError) as caught:
        pv.grants.map(Reserved.CONSOLE)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.needs_xen(4, 11)
def test_a_grant_that_is_mapped_keeps_a_dead_domain(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    (console,) = pv.memory.populate([0])
    pv.grants.seed(console=console)
    with pv.grants.map(Reserved.CONSOLE):
        xen.call(domctl.DESTROYDOMAIN, pv.domid)
        assert pv.info().dying
        with pytest.raises(errors.DomainStuck, match="1 of its pages in 1 mapping"):
            pv.destroy(timeout=0.2)
    deadline = time.monotonic() + 10
    while pv.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.needs_xen(4, 12)
@pytest.mark.usefixtures("unguarded")
def test_what_a_table_holds(xen: pyxc.Xen) -> None:
    domain = xen.domains.create(max_grant_frames=4)
    try:
        info = domain.grants.info()
        assert (info.max_nr_frames, info.version) == (4, 1)
    finally:
        domain.destroy()


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_many_that_come_and_go_leave_nothing(xen: pyxc.Xen, how: str) -> None:
    before = in_use()
    dom0 = xen.domains[0]
    for _ in range(100):
        lent = dom0.grants.lend(1, writable=True)
        mapped = dom0.grants.map(lent.refs)
        if how == "closed":
            mapped.close()
            lent.pages.close()
        del mapped, lent
    assert in_use() == before
