# SPDX-License-Identifier: MIT
"""Cpu pools: what they are, how they come, change and go."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import pytest
from hosts import Boot, Host

from pyxc import Affinity, PoolInfo, Scheduler, errors
from pyxc.abi import sysctl_cpupool, sysctl_scheduler
from pyxc.abi.operation import Operation


def test_every_host_has_pool_0(any_host: Host) -> None:
    if not any_host.truth.profile.since(4, 1):
        with pytest.raises(errors.Unsupported):
            any_host.xen.pools.infos()
        assert any_host.xen.domains["web1"].pool() is None
        return
    (info,) = any_host.xen.pools.infos()
    assert info == PoolInfo(0, any_host.xen.domains["web1"].scheduler(), 4, frozenset({0, 1}))
    assert any_host.xen.pools.free_cpus() == frozenset()


def test_pools_are_a_mapping_by_id_and_name(host: Host) -> None:
    pools = host.xen.pools
    realtime = pools.create(Scheduler.CREDIT, pool_id=7)
    assert (list(pools), len(pools)) == ([0, 7], 2)
    assert pools[7] == realtime == pools.create().xen.pools[7]
    assert pools["Pool-0"] == pools[0]
    for absent in (3, "nowhere"):
        with pytest.raises(KeyError, match="no cpu pool has the"):
            pools[absent]
    with pytest.raises(ValueError, match="pool id"):
        pools[-1]
    assert repr(realtime) == "<Pool 7 on sim:xen-4.17>" and repr(pools) == "<Pools of sim:xen-4.17>"
    assert {realtime: 1}[pools[7]] == 1 and realtime != 7


def test_a_pool_from_its_first_cpu_to_its_end(host: Host) -> None:
    xen = host.xen
    pool = xen.pools.create(Scheduler.CREDIT)
    assert pool.info() == PoolInfo(1, Scheduler.CREDIT, 0, frozenset())
    xen.pools[0].remove_cpu(1)
    assert xen.pools.free_cpus() == {1}
    pool.add_cpu()
    assert (pool.info().cpus, xen.pools.free_cpus()) == ({1}, frozenset())
    web1 = xen.domains["web1"]
    web1.vcpu(0).set_affinity(hard=[0])
    pool.add_domain(web1)
    assert (web1.pool(), web1.info().cpupool, pool.info().nr_domains) == (pool, 1, 1)
    assert web1.vcpu(0).affinity() == Affinity(frozenset({0, 1}), frozenset({0, 1}))
    assert {vcpu.pcpu for vcpu in host.truth.domains[1].live_vcpus if vcpu.running} <= {1}
    xen.pools[0].add_domain(web1)
    pool.remove_cpu()
    pool.destroy()
    xen.pools[0].add_cpu(1)
    assert xen.pools.infos() == [PoolInfo(0, Scheduler.CREDIT2, 4, frozenset({0, 1}))]


def test_running_vcpus_stay_on_the_cpus_of_their_pool(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    pool = host.xen.pools.create()
    host.xen.pools[0].remove_cpu(0)
    pool.add_cpu(0)
    pool.add_domain(db1)
    assert (db1.vcpu(0).info().running, db1.vcpu(0).info().cpu) == (True, 0)
    assert host.xen.domains[0].vcpu(0).info().cpu == 1


@pytest.mark.parametrize("cpu", [-1, 2, 64])
def test_a_cpu_that_the_host_does_not_have(host: Host, cpu: int) -> None:
    pool = host.xen.pools[0]
    assert host.xen.nr_cpus == 2
    before = host.link.hypercalls
    for wrong in (pool.add_cpu, pool.remove_cpu):
        with pytest.raises(ValueError, match="cpu is"):
            wrong(cpu)
    assert host.link.hypercalls == before


def test_refusals_say_what_they_mean(host: Host) -> None:
    xen = host.xen
    pool, first, web1 = xen.pools.create(pool_id=5), xen.pools[0], xen.domains["web1"]
    for wrong, number, hint in (
        (lambda: xen.pools.create(pool_id=5), errno.EEXIST, ""),
        (lambda: xen.pools.create(Scheduler.RTDS), errno.ENOENT, "built without this scheduler"),
        (lambda: pool.add_domain(web1), errno.ENOENT, "no such cpu pool, or it has no cpu"),
        (lambda: first.add_domain(xen.domains[0]), errno.EPERM, "the calling domain cannot be moved"),
        (lambda: pool.add_cpu(0), errno.ENODEV, "the cpu belongs to a pool"),
        (lambda: pool.add_cpu(), errno.ENODEV, "no cpu is free"),
        (lambda: pool.remove_cpu(0), errno.EADDRNOTAVAIL, "the cpu is not in this pool"),
        (lambda: pool.remove_cpu(), errno.EINVAL, "the pool needs this cpu"),
        (first.destroy, errno.EBUSY, "the pool has cpus or domains"),
    ):
        with pytest.raises(errors.HypercallError) as caught:
            wrong()
        assert caught.value.errno == number
        assert hint in str(caught.value)


def test_the_last_cpu_of_a_pool_stays_with_its_domains(host: Host) -> None:
    xen = host.xen
    pool, web1 = xen.pools.create(), xen.domains["web1"]
    xen.pools[0].remove_cpu(1)
    pool.add_cpu(1)
    pool.add_domain(web1)
    with pytest.raises(errors.HypercallError, match="EBUSY.*the pool has domains"):
        pool.remove_cpu(1)
    with pytest.raises(errors.HypercallError, match="EINVAL.*needs this cpu"):
        xen.pools[0].remove_cpu(0)


def test_a_pool_that_is_gone(host: Host) -> None:
    pool = host.xen.pools.create()
    pool.destroy()
    for wrong in (pool.info, pool.destroy, pool.scheduling, lambda: pool.add_domain(host.xen.domains[1])):
        with pytest.raises(errors.HypercallError, match="no such cpu pool") as caught:
            wrong()
        assert caught.value.errno == errno.ENOENT


def test_a_cpu_that_a_vcpu_cannot_leave_yet_is_waited_for(host: Host) -> None:
    pool = host.xen.pools[0]
    for call_after_the_look_at_the_pool in (1, 2):
        host.link.fail_call(call_after_the_look_at_the_pool, errno.EAGAIN)
    pool.remove_cpu(1)
    assert host.xen.pools.free_cpus() == {1}


@pytest.mark.parametrize("release", ["4.14", "4.17-xsm"])
def test_xen_is_spared_what_it_crashes_of(boot: Boot, release: str) -> None:
    host = boot(release)
    pool = host.xen.pools.create(Scheduler.RTDS)
    host.xen.pools[0].remove_cpu(1)
    pool.add_cpu(1)
    with pytest.raises(errors.Unsupported, match="can crash when a cpu leaves an rtds pool"):
        pool.remove_cpu(1)
    assert host.truth.pools[1].cpus == 0b10


def test_a_scheduler_that_pyxc_has_no_name_for(host: Host) -> None:
    host.truth.pools[0].scheduler = 42
    assert host.xen.pools[0].scheduler() == 42
    assert host.xen.domains["web1"].scheduling() is None


def test_the_last_cpu_of_a_credit_pool_leaves_far_from_its_accounting(host: Host) -> None:
    """Which comes once in a time slice; when both meet, a real host stands still."""
    pool = host.xen.pools.create(Scheduler.CREDIT)
    host.xen.pools[0].remove_cpu(1)
    pool.add_cpu(1)
    slices = []

    def watch(operation: Operation, sent: Mapping[str, Any], *_: object) -> None:
        if operation is sysctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT:
            slices.append(sent["u.sched_credit.tslice_ms"])
        elif operation is sysctl_cpupool.CPUPOOL_OP_RMCPU:
            slices.append("cpu leaves")

    host.xen.caller.trace = watch
    pool.remove_cpu(1)
    assert slices == [1000, "cpu leaves", 30]
    assert host.xen.pools.free_cpus() == {1}
