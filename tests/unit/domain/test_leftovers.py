# SPDX-License-Identifier: MIT
"""What is left on a host, and that nothing hides it."""

from __future__ import annotations

import errno

import pytest
from hosts import Host

import pyxc
from pyxc import Scheduler, sim
from pyxc.abi import sysctl_cpupool
from pyxc.abi.domctl_paging import SHADOW_OP_PEEK
from pyxc.domain.leftovers import Leftover
from pyxc.store import StoreClient


def of_kind(host: Host, kind: str) -> list[Leftover]:
    return [left for left in host.xen.leftovers() if left.kind == kind]


def test_a_host_as_it_booted_has_one_paused_guest(any_host: Host) -> None:
    found = any_host.xen.leftovers()
    if any_host.truth.store_runs:
        assert [(left.kind, left.domid) for left in found if left.kind != "unknown"] == [("paused", 3)]


def test_a_paused_guest_is_left_until_it_is_unpaused(host: Host) -> None:
    host.xen.domains["build"].unpause()
    assert of_kind(host, "paused") == []
    host.xen.domains["web1"].pause()
    (left,) = of_kind(host, "paused")
    assert (left.subject, left.domid, left.remedy) == ("domain 1 (web1)", 1, "pyxc unpause 1")


def test_a_domain_that_xenstore_does_not_know_is_an_orphan(host: Host) -> None:
    made = host.xen.domains.create()
    (left,) = of_kind(host, "orphan")
    assert left.domid == made.domid and str(made.uuid) in left.found
    assert left.remedy == f"pyxc destroy {made.domid}"
    host.truth.introduce(made.domid, "mail1")
    assert of_kind(host, "orphan") == []


def test_a_domain_that_does_not_end_is_dying(host: Host) -> None:
    held = host.xen.domains["db1"].memory.map([5])
    host.truth.kill(host.truth.domains[2])
    assert [left.domid for left in of_kind(host, "dying")] == [2]
    held.close()
    assert of_kind(host, "dying") == []


def test_a_debugged_guest(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    assert of_kind(host, "debugged") == []
    web1.set_debugging(True)
    (left,) = of_kind(host, "debugged")
    assert (left.domid, "breakpoints" in left.found) == (1, True)
    web1.set_debugging(False)
    assert of_kind(host, "debugged") == []


@pytest.mark.parametrize("name", ["db1", "web1"])
def test_log_dirty_mode_shows_while_no_page_is_dirty(host: Host, name: str) -> None:
    assert of_kind(host, "log-dirty") == []
    log = host.xen.domains[name].log_dirty
    log.enable()
    (left,) = of_kind(host, "log-dirty")
    assert left.domid == host.xen.domains[name].domid
    eval(left.remedy.partition(", ")[0], {"xen": host.xen})
    assert of_kind(host, "log-dirty") == []


def test_tracing_that_was_left_on(host: Host) -> None:
    buffers = host.xen.trace_buffers
    with buffers.record(pages=1) as reader:
        host.truth.trace(1, 0x28001)
        assert reader.unread_bytes() > 0
        (left,) = of_kind(host, "tracing")
        assert (left.subject, left.remedy) == ("the trace buffers", "pyxc trace off")
    assert of_kind(host, "tracing") == []
    buffers.enable()
    host.truth.trace(1, 0x28001)
    assert len(of_kind(host, "tracing")) == 1
    buffers.off()
    host.truth.trace(1, 0x28001)
    assert of_kind(host, "tracing") == []
    assert buffers.info().size_bytes > 0


def test_log_dirty_mode_shows_once_a_page_is_written(host: Host) -> None:
    log = host.xen.domains["db1"].log_dirty
    log.enable()
    host.truth.write_as_guest(2, 5, 0, b"x")
    assert [left.domid for left in of_kind(host, "log-dirty")] == [2]
    log.disable()
    assert of_kind(host, "log-dirty") == []


def test_a_pool_without_name_is_left(host: Host) -> None:
    pool = host.xen.pools.create()
    (left,) = of_kind(host, "pool")
    assert (left.subject, left.found) == ("cpu pool 1", "it has no name")
    pool.rename("fast")
    assert of_kind(host, "pool") == []


def test_the_time_slice_of_a_pool_that_loses_its_last_cpu(host: Host) -> None:
    host.xen.pools[0].remove_cpu(1)
    pool = host.xen.pools.create(Scheduler.CREDIT, name="fast")
    pool.add_cpu(1)
    assert of_kind(host, "pool") == []
    pool.set_scheduling(tslice_ms=1000)
    (left,) = of_kind(host, "pool")
    assert "1000 ms" in left.found and "tslice_ms=30" in left.remedy


@pytest.mark.parametrize("top", ["/local/pool", "/local/domain"])
def test_nodes_of_what_is_gone(host: Host, top: str) -> None:
    host.truth.store.write(f"{top}/77/name", "ghost")
    (left,) = of_kind(host, "node")
    assert (left.subject, left.remedy) == (f"{top}/77", f"pyxc store rm {top}/77")
    host.xen.store.remove(f"{top}/77")
    assert of_kind(host, "node") == []


def test_open_transactions_of_a_guest(host: Host) -> None:
    with StoreClient(lambda: host.truth.store.connect(1)) as store:
        opened = [store.begin(), store.begin()]
        (left,) = of_kind(host, "transaction")
        assert (left.subject, left.domid) == ("domain 1", 1)
        assert left.found.startswith(f"it has {len(opened)} open transactions")
    assert of_kind(host, "transaction") == []


def test_what_cannot_be_looked_at_hides_nothing_else(host: Host) -> None:
    host.link.fail(SHADOW_OP_PEEK, errno.EIO)
    host.link.fail(sysctl_cpupool.CPUPOOL_OP_INFO, errno.EPERM)
    found = host.xen.leftovers()
    assert [left.subject for left in found if left.kind == "unknown"] == ["domain 1", "the cpu pools"]
    assert [left.domid for left in found if left.kind == "paused"] == [3]


def test_without_xenstore_what_xen_knows_is_found() -> None:
    alone = sim.Hypervisor(sim.named("sim:xen-4.17"), with_store=False)
    with pyxc.connect(alone.connect()) as xen:
        found = [(left.kind, left.subject) for left in xen.leftovers()]
    assert found == [("unknown", "xenstore"), ("paused", "domain 3")]


def test_a_domain_that_ends_meanwhile_is_no_error(host: Host) -> None:
    host.link.before(SHADOW_OP_PEEK, lambda: host.truth.kill(host.truth.domains[1]))
    assert of_kind(host, "unknown") == []


def test_nothing_is_changed(host: Host) -> None:
    """A read-only handle refuses what changes something."""
    with pyxc.connect(host.truth.connect(), readonly=True) as xen:
        assert [left.kind for left in xen.leftovers()] == ["paused"]
