# SPDX-License-Identifier: MIT
"""How schedulers share the cpus out: domains, vcpus, pools."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hosts import Boot, Host

from pyxc import (
    Credit2Params,
    Credit2PoolParams,
    CreditParams,
    CreditPoolParams,
    Domain,
    RtdsParams,
    Scheduler,
    errors,
)
from pyxc.abi import domctl_scheduler


def under(host: Host, scheduler: Scheduler) -> Domain:
    """web1, with its two vcpus, in a pool of its own under a scheduler."""
    pool = host.xen.pools.create(scheduler)
    host.xen.pools[0].remove_cpu(1)
    pool.add_cpu(1)
    pool.add_domain(host.xen.domains["web1"])
    return host.xen.domains["web1"]


def test_a_change_of_one_parameter_keeps_the_others(any_host: Host) -> None:
    web1 = any_host.xen.domains["web1"]
    web1.set_scheduling(cap=150)
    web1.set_scheduling(weight=512)
    assert web1.scheduling() == (512, 150)
    assert any_host.truth.domains[1].share["weight"] == 512


def test_domains_have_the_parameters_of_their_pools_scheduler(boot: Boot) -> None:
    host = boot("4.14")
    assert host.xen.domains["db1"].scheduling() == Credit2Params(256, 0)
    assert under(host, Scheduler.CREDIT).scheduling() == CreditParams(256, 0)
    assert (host.xen.domains["web1"].scheduler(), host.xen.scheduler) == (Scheduler.CREDIT, Scheduler.CREDIT2)


def test_a_scheduler_without_parameters(boot: Boot) -> None:
    host = boot("4.14")
    web1 = under(host, Scheduler.NULL)
    assert web1.scheduling() is None
    assert (web1.vcpus.scheduling(), web1.vcpu(0).scheduling()) == (None, None)
    assert host.xen.pools[1].scheduling() is None
    with pytest.raises(ValueError, match="the scheduler null has no parameters of domains"):
        web1.set_scheduling(weight=1)
    with pytest.raises(ValueError, match="the scheduler null has no parameters of pools"):
        host.xen.pools[1].set_scheduling(ratelimit_us=0)


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({}, "expected at least one of weight, cap, period_us, budget_us, extratime"),
        ({"weight": 0}, "weight is 0: it must be from 1 to 65535"),
        ({"weight": 65536}, "weight is 65536"),
        ({"cap": -1}, "cap is -1"),
        ({"budget_us": 9}, "budget_us is 9"),
    ],
)
def test_what_no_scheduler_takes_is_refused_before_any_hypercall(
    host: Host, wanted: dict[str, Any], complaint: str
) -> None:
    web1 = host.xen.domains["web1"]
    before = host.link.hypercalls
    with pytest.raises(ValueError, match=complaint):
        web1.set_scheduling(**wanted)
    assert host.link.hypercalls == before


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"weight": 512, "cap": 201}, "cap is 201: it must be from 0 to 200, 100 for each of 2 vcpus"),
        ({"weight": 512, "period_us": 1000}, "credit2 has no period_us here; it has weight and cap"),
    ],
)
def test_what_a_scheduler_does_not_take_changes_nothing(
    host: Host, wanted: dict[str, Any], complaint: str
) -> None:
    """Xen itself would keep the weight and then refuse the cap."""
    web1 = host.xen.domains["web1"]
    with pytest.raises(ValueError, match=complaint):
        web1.set_scheduling(**wanted)
    assert web1.scheduling() == Credit2Params(256, 0)


def test_credit2_had_no_cap_before_4_10(boot: Boot) -> None:
    host = boot("4.7")
    web1 = under(host, Scheduler.CREDIT2)
    assert web1.scheduling() == Credit2Params(weight=256, cap=None)
    web1.set_scheduling(weight=3)
    assert web1.scheduling() == Credit2Params(weight=3, cap=None)
    with pytest.raises(ValueError, match="credit2 has no cap here; it has weight"):
        web1.set_scheduling(cap=10)


def test_rtds_keeps_times_of_each_vcpu(boot: Boot) -> None:
    web1 = under(boot("4.14"), Scheduler.RTDS)
    usual = RtdsParams(period_us=10_000, budget_us=4_000, extratime=True)
    assert web1.vcpus.scheduling() == [usual, usual]
    web1.vcpu(1).set_scheduling(budget_us=1_000, extratime=False)
    assert web1.vcpus.scheduling() == [usual, RtdsParams(10_000, 1_000, False)]
    assert web1.vcpu(1).scheduling() == RtdsParams(10_000, 1_000, False)
    web1.set_scheduling(period_us=20_000)
    assert web1.vcpus.scheduling() == [RtdsParams(20_000, 4_000, True), RtdsParams(20_000, 1_000, False)]
    assert web1.scheduling() == RtdsParams(10_000, 4_000, False), "what a new vcpu gets"


def test_rtds_before_extratime(boot: Boot) -> None:
    web1 = under(boot("4.7"), Scheduler.RTDS)
    web1.vcpu(0).set_scheduling(period_us=50_000)
    assert web1.vcpus.scheduling() == [RtdsParams(50_000, 4_000, None), RtdsParams(10_000, 4_000, None)]
    with pytest.raises(ValueError, match="rtds has no extratime here"):
        web1.vcpu(0).set_scheduling(extratime=True)


def test_more_budget_than_period_for_one_vcpu_changes_none(boot: Boot) -> None:
    web1 = under(boot("4.14"), Scheduler.RTDS)
    web1.vcpu(1).set_scheduling(period_us=1_000, budget_us=500)
    before = web1.vcpus.scheduling()
    with pytest.raises(ValueError, match="budget_us is 2000: it must not exceed period_us, 1000"):
        web1.set_scheduling(budget_us=2_000)
    assert web1.vcpus.scheduling() == before


def test_times_of_many_vcpus_may_take_several_calls(boot: Boot) -> None:
    host = boot("4.14")
    web1 = under(host, Scheduler.RTDS)
    before = host.link.hypercalls
    host.link.lie(domctl_scheduler.SCHEDULER_OP_GETVCPUINFO_RTDS, **{"u.v.nr_vcpus": 1})
    assert web1.vcpus.scheduling() == [RtdsParams(10_000, 4_000, True)] * 2
    one_at_a_time = host.link.hypercalls - before
    host.link.lie(domctl_scheduler.SCHEDULER_OP_GETVCPUINFO_RTDS, **{"u.v.nr_vcpus": 3})
    with pytest.raises(errors.DecodeError, match="handled 3 of 2 vcpus"):
        web1.vcpus.scheduling()
    assert one_at_a_time == 5, "the domain's vcpus and pool, the pool's scheduler, and two vcpus"


def test_a_vcpu_that_is_not_there(boot: Boot) -> None:
    web1 = under(boot("4.14"), Scheduler.RTDS)
    for wrong in (web1.vcpu(7).scheduling, lambda: web1.vcpu(7).set_scheduling(budget_us=20)):
        with pytest.raises(errors.HypercallError) as caught:
            wrong()
        assert (caught.value.errno, caught.value.domid) == (errno.EINVAL, 1)


def test_single_vcpus_under_credit2(host: Host) -> None:
    vcpu = host.xen.domains["web1"].vcpu(0)
    assert vcpu.scheduling() is None
    with pytest.raises(ValueError, match="credit2 has no parameters per vcpu"):
        vcpu.set_scheduling(budget_us=500)


def test_credit_in_a_whole_pool(boot: Boot) -> None:
    host = boot("4.14")
    pool = under(host, Scheduler.CREDIT).pool()
    assert pool is not None
    assert pool.scheduling() == CreditPoolParams(30, 1000, 0)
    pool.set_scheduling(tslice_ms=5, vcpu_migr_delay_us=100)
    pool.set_scheduling(ratelimit_us=0)
    assert pool.scheduling() == CreditPoolParams(tslice_ms=5, ratelimit_us=0, vcpu_migr_delay_us=100)


def test_credit_in_a_whole_pool_before_the_delay(boot: Boot) -> None:
    pool = boot("4.10").xen.pools[0]
    assert pool.scheduling() == CreditPoolParams(30, 1000, None)
    with pytest.raises(ValueError, match="credit has no vcpu_migr_delay_us here"):
        pool.set_scheduling(vcpu_migr_delay_us=1)


@pytest.mark.parametrize(("release", "scheduler"), [("4.1", Scheduler.CREDIT), ("4.7", Scheduler.CREDIT2)])
def test_pools_that_could_not_be_asked_yet(boot: Boot, release: str, scheduler: Scheduler) -> None:
    host = boot(release)
    pool = under(host, scheduler).pool()
    assert pool is not None and pool.scheduling() is None
    with pytest.raises(errors.Unsupported):
        pool.set_scheduling(ratelimit_us=0)


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"ratelimit_us": 99}, "it must be 0 .none. or at least 100"),
        ({"ratelimit_us": 500_001}, "ratelimit_us is 500001"),
        ({"tslice_ms": 10}, "credit2 has no tslice_ms here; it has ratelimit_us"),
        ({}, "expected at least one of tslice_ms"),
    ],
)
def test_what_a_pool_does_not_take(host: Host, wanted: dict[str, int], complaint: str) -> None:
    pool = host.xen.pools[0]
    with pytest.raises(ValueError, match=complaint):
        pool.set_scheduling(**wanted)
    assert pool.scheduling() == Credit2PoolParams(1000)


def test_a_ratelimit_longer_than_the_time_slice(boot: Boot) -> None:
    pool = boot("4.10").xen.pools[0]
    with pytest.raises(ValueError, match="ratelimit_us is 1001: it must not exceed tslice_ms, 1"):
        pool.set_scheduling(tslice_ms=1, ratelimit_us=1001)


def test_a_domain_that_was_replaced_keeps_its_share(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    host.truth.domains[1].handle = bytes(16)
    with pytest.raises(errors.DomainGone):
        web1.set_scheduling(weight=1)
    assert host.truth.domains[1].share["weight"] == 256


def test_a_read_only_handle_shows_and_does_not_change(boot: Boot) -> None:
    host = boot(readonly=True)
    assert host.xen.domains["web1"].scheduling() == Credit2Params(256, 0)
    with pytest.raises(errors.ReadOnlyError):
        host.xen.domains["web1"].set_scheduling(weight=1)
