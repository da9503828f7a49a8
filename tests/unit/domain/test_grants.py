# SPDX-License-Identifier: MIT
"""Pages that domains lend each other."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import GrantInfo, errors
from pyxc._core import PAGE_SIZE
from pyxc.abi import domctl
from pyxc.abi.grant_table import Reserved

ABSENT_REF = 4000


def with_ring(host: Host) -> tuple[pyxc.Domain, int]:
    """A new domain, and a frame of its that says "console ring"."""
    made = host.xen.domains.create()
    made.set_max_memory(64)
    (frame,) = made.memory.populate([0])
    made.memory.write(frame, b"console ring")
    return made, frame


def test_a_ring_is_lent_to_dom0(host: Host) -> None:
    domain, frame = with_ring(host)
    domain.grants.seed(console=frame)
    with domain.grants.map(Reserved.CONSOLE, writable=True) as ring, memoryview(ring) as view:
        assert bytes(view[:12]) == b"console ring"
        view[:7] = b"CONSOLE"
    assert domain.memory.read(frame, size=12) == b"CONSOLE ring"
    with pytest.raises(errors.HypercallError, match=r"gntdev.map on domain \d+ failed: EINVAL.*\[1\]"):
        domain.grants.map(Reserved.XENSTORE)


@pytest.mark.parametrize("release", ["3.1", "4.4", "4.10"])
def test_tables_of_others_are_not_written_before_xen_4_12(boot: Boot, release: str) -> None:
    host = boot(release)
    before = host.link.hypercalls
    domain = host.xen.domains[1]
    with pytest.raises(errors.Unsupported, match="acquire_resource on domain 1 .* since Xen 4.12"):
        domain.grants.seed(console=1)
    assert host.link.hypercalls == before + 1, "the look at the domain"


def test_rings_of_a_translated_guest_go_by_its_own_numbers(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    db1.grants.seed(console=0x100, store=0x101)
    with db1.grants.map([Reserved.CONSOLE, Reserved.XENSTORE]) as rings, memoryview(rings) as view:
        assert len(view) == 2 * PAGE_SIZE
        assert bytes(view[:25]) == b"db1: simulated PVH kernel"


def test_who_serves_a_ring_may_be_another_domain(host: Host) -> None:
    domain, frame = with_ring(host)
    domain.grants.seed(console=frame, console_domid=1)
    with pytest.raises(errors.HypercallError, match="not all granted to this domain") as caught:
        domain.grants.map(Reserved.CONSOLE)
    assert caught.value.errno == errno.EINVAL


def test_pages_are_lent_to_a_domain_and_come_back(host: Host) -> None:
    dom0 = host.xen.domains[0]
    lent = dom0.grants.lend(2, writable=True)
    with lent.pages, dom0.grants.map(lent.refs, writable=True) as mapped:
        ours, theirs = memoryview(lent.pages), memoryview(mapped)
        assert bytes(ours) == bytes(2 * PAGE_SIZE)
        ours[PAGE_SIZE : PAGE_SIZE + 5] = b"hello"
        theirs[:3] = b"you"
        assert (bytes(theirs[PAGE_SIZE : PAGE_SIZE + 5]), bytes(ours[:3])) == (b"hello", b"you")
        ours.release()
        theirs.release()
    with pytest.raises(errors.HypercallError, match="EINVAL"):
        dom0.grants.map(lent.refs)
    again = dom0.grants.lend(2)
    assert again.refs == lent.refs
    again.pages.close()


def test_pages_lent_to_be_read_are_not_written(host: Host) -> None:
    dom0 = host.xen.domains[0]
    lent = dom0.grants.lend()
    with lent.pages:
        with dom0.grants.map(lent.refs) as mapped:
            assert memoryview(mapped).readonly
        with pytest.raises(errors.HypercallError, match="EINVAL"):
            dom0.grants.map(lent.refs, writable=True)


def test_two_loans_do_not_share_pages(host: Host) -> None:
    dom0 = host.xen.domains[0]
    with dom0.grants.lend().pages as one, dom0.grants.lend().pages as other:
        memoryview(one)[:3] = b"one"
        assert bytes(memoryview(other)[:3]) == bytes(3)


def test_what_a_table_holds(host: Host) -> None:
    domain = host.xen.domains.create(max_grant_frames=4)
    assert domain.grants.info() == GrantInfo(nr_frames=1, max_nr_frames=4, version=1)
    assert repr(domain.grants) == f"<Grants of domain {domain.domid}>"


def test_a_grant_that_is_mapped_keeps_a_dead_domain(host: Host) -> None:
    domain, frame = with_ring(host)
    domain.grants.seed(console=frame)
    with domain.grants.map(Reserved.CONSOLE):
        host.xen.call(domctl.DESTROYDOMAIN, domain.domid)
        assert domain.info().dying
        assert [mapped.domid for mapped in host.xen.link.maps] == [domain.domid]
    assert not domain.exists()


def test_what_is_not_lent(any_host: Host) -> None:
    web1 = any_host.xen.domains["web1"]
    for refs in ([0], [ABSENT_REF], [2**32 - 1]):
        with pytest.raises(errors.HypercallError, match="gntdev.map on domain 1 failed: EINVAL"):
            web1.grants.map(refs)


def test_a_domain_that_is_gone(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    web1.destroy()
    seed, map_one = lambda: web1.grants.seed(console=1), lambda: web1.grants.map(0)
    for use in (web1.grants.info, web1.grants.lend, seed, map_one):
        with pytest.raises(errors.DomainNotFound):
            use()


def test_mistakes_are_found_before_anything_is_asked(host: Host) -> None:
    grants = host.xen.domains["web1"].grants
    calls = host.link.hypercalls
    for use in (
        lambda: grants.map([]),
        lambda: grants.map(-1),
        lambda: grants.lend(0),
        lambda: grants.seed(console=2**32),
        lambda: grants.seed(store=1, store_domid=1 << 16),
    ):
        with pytest.raises(ValueError):
            use()
    assert host.link.hypercalls == calls


def test_a_read_only_handle_only_looks(boot: Boot) -> None:
    grants = boot("4.17", readonly=True).xen.domains["web1"].grants
    assert grants.info().version == 1
    for use in (lambda: grants.map(0, writable=True), grants.lend, lambda: grants.seed(console=1)):
        with pytest.raises(errors.ReadOnlyError):
            use()
