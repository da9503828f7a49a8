# SPDX-License-Identifier: MIT
"""Shares of domains and cpu pools on this Xen, whatever schedulers it has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyxc
from pyxc import Credit2Params, CreditParams, RtdsParams, Scheduler


def make(xen: pyxc.Xen, scheduler: Scheduler, cpu: int) -> pyxc.Pool | None:
    """A pool with one cpu; None where Xen lacks the scheduler."""
    try:
        pool = xen.pools.create(scheduler)
    except pyxc.HypercallError as error:
        assert "built without this scheduler" in str(error)
        return None
    xen.pools[0].remove_cpu(cpu)
    pool.add_cpu(cpu)
    return pool


@pytest.fixture(params=[Scheduler.CREDIT, Scheduler.CREDIT2, Scheduler.NULL])
def pool(
    xen: pyxc.Xen, pv: pyxc.Domain, free_cpu: int, request: pytest.FixtureRequest
) -> Iterator[pyxc.Pool | None]:
    """A pool into which the domain `pv` has moved; None where Xen lacks the scheduler."""
    pool = make(xen, request.param, free_cpu)
    if pool is None:
        yield None
        return
    pool.add_domain(pv)
    yield pool
    xen.pools[0].add_domain(pv)
    pool.remove_cpu(free_cpu)
    pool.destroy()
    xen.pools[0].add_cpu(free_cpu)


@pytest.fixture
def rtds_pool(xen: pyxc.Xen, pv: pyxc.Domain, free_cpu: int, changed_xen: None) -> Iterator[pyxc.Pool | None]:
    """A pool that no cpu can leave, with the domain `pv` in it; None where Xen lacks the scheduler."""
    made = [info.pool_id for info in xen.pools.infos() if info.scheduler is Scheduler.RTDS]
    pool = xen.pools[made[0]] if made else make(xen, Scheduler.RTDS, free_cpu)
    if pool is None:
        yield None
        return
    pool.add_domain(pv)
    yield pool
    xen.pools[0].add_domain(pv)


def test_default_pool(xen: pyxc.Xen) -> None:
    (info,) = xen.pools.infos()
    assert info.pool_id == 0 and info.cpus == set(range(xen.nr_cpus))
    assert isinstance(info.scheduler, Scheduler) and info.scheduler is xen.scheduler
    assert info.nr_domains == len(xen.domains)
    assert xen.pools[0].scheduling() is not None


def test_parameters_of_each_scheduler(pool: pyxc.Pool | None, pv: pyxc.Domain) -> None:
    if pool is None:
        return
    assert (pv.pool(), pv.scheduler(), pool.info().nr_domains) == (pool, pool.scheduler(), 1)
    match pv.scheduling():
        case CreditParams() | Credit2Params():
            pv.set_scheduling(cap=150)
            pv.set_scheduling(weight=512)
            assert pv.scheduling() == (512, 150)
            pool.set_scheduling(ratelimit_us=2000)
            assert pool.scheduling() is not None and pool.scheduling().ratelimit_us == 2000
        case None:
            assert pool.scheduler() is Scheduler.NULL and pool.scheduling() is None


def test_times_of_vcpus(rtds_pool: pyxc.Pool | None, pv: pyxc.Domain) -> None:
    if rtds_pool is None:
        return
    pv.vcpu(1).set_scheduling(budget_us=1000, extratime=False)
    pv.set_scheduling(period_us=20_000)
    assert pv.vcpus.scheduling() == [RtdsParams(20_000, 4_000, True), RtdsParams(20_000, 1_000, False)]


@pytest.mark.needs_xen(4, 14, before=(4, 23))
def test_xen_is_spared_what_it_crashes_of(rtds_pool: pyxc.Pool | None) -> None:
    if rtds_pool is None:
        return
    with pytest.raises(pyxc.Unsupported, match="can crash"):
        rtds_pool.remove_cpu(1)
    assert rtds_pool.info().cpus == {1}


def test_a_cap_that_is_too_high_changes_nothing(pv: pyxc.Domain) -> None:
    before = pv.scheduling()
    with pytest.raises(ValueError, match="from 0 to 200"):
        pv.set_scheduling(weight=7, cap=201)
    assert pv.scheduling() == before
