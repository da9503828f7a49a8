# SPDX-License-Identifier: MIT
"""scheduler_op of domctl and sysctl: what schedulers keep of domains, of vcpus, and for a whole pool."""

from __future__ import annotations

from collections.abc import Mapping

from pyxc.abi import domctl_scheduler, sysctl_scheduler
from pyxc.abi.domctl import Scheduler
from pyxc.abi.domctl_scheduler import RtdsFlag, SchedulerOp
from pyxc.abi.errno import XenErrno
from pyxc.abi.operation import Operation
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.cpupools import CpuPool, vcpu_reservation
from pyxc.sim.model.domain import Domain, Vcpu
from pyxc.sim.ops.call import Call, handles

_LEAVE_CAP = 0xFFFF
_PERCENT_OF_A_VCPU = 100
_LEAST_US = 10

_OF_DOMAINS: Mapping[int, Operation] = {
    Scheduler.CREDIT: domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT,
    Scheduler.CREDIT2: domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2,
    Scheduler.RTDS: domctl_scheduler.SCHEDULER_OP_GETINFO_RTDS,
}
_OF_POOLS: Mapping[int, Operation] = {
    Scheduler.CREDIT: sysctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT,
    Scheduler.CREDIT2: sysctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2,
}


@handles(
    domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT,
    domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT,
    domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2,
    domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT2,
    domctl_scheduler.SCHEDULER_OP_GETINFO_RTDS,
    domctl_scheduler.SCHEDULER_OP_PUTINFO_RTDS,
    domctl_scheduler.SCHEDULER_OP_GETVCPUINFO_RTDS,
    domctl_scheduler.SCHEDULER_OP_PUTVCPUINFO_RTDS,
)
def of_domain(call: Call) -> None:
    """The null scheduler takes everything and does nothing."""
    scheduler, op = call["sched_id"], call["op"]
    reads = op in (SchedulerOp.GETINFO, SchedulerOp.GETVCPUINFO)
    wanted = ("domain", "getscheduler") if reads else ("domain2", "setscheduler")
    call.xen.demand(call.domain.ssidref, *wanted)
    if scheduler != call.xen.pools[call.domain.pool_id].scheduler or not 0 <= op < len(SchedulerOp):
        raise Refusal(XenErrno.EINVAL)
    if scheduler == Scheduler.NULL:
        call.answer()
        return
    if op in (SchedulerOp.GETVCPUINFO, SchedulerOp.PUTVCPUINFO):
        if scheduler != Scheduler.RTDS:
            raise Refusal(XenErrno.EINVAL)
        _vcpus(call.reading(domctl_scheduler.SCHEDULER_OP_GETVCPUINFO_RTDS))
        return
    view = call.reading(_OF_DOMAINS[scheduler])
    if scheduler == Scheduler.RTDS:
        _reservation(view)
    else:
        _share(view, scheduler)


def _share(call: Call, scheduler: int) -> None:
    """Weight 0 is invalid. If the cap is refused, earlier changes remain."""
    domain, prefix = call.domain, f"u.{Scheduler(scheduler).name.lower()}."
    fields = {name: prefix + name for name in domain.share if prefix + name in call.layout.index}
    if call["op"] == SchedulerOp.GETINFO:
        call.answer(**{field: domain.share[name] for name, field in fields.items()})
        return
    domain.share["weight"] = call[fields["weight"]] or domain.share["weight"]
    if "cap" in fields:
        cap = call[fields["cap"]]
        if scheduler == Scheduler.CREDIT2 and cap > _PERCENT_OF_A_VCPU * len(domain.live_vcpus):
            raise Refusal(XenErrno.EINVAL)
        if scheduler == Scheduler.CREDIT2 or cap != _LEAVE_CAP:
            domain.share["cap"] = cap
    call.answer()


def _reservation(call: Call) -> None:
    """A domain has no parameters: reading returns those of a new vcpu, and writing sets all vcpus."""
    if call["op"] == SchedulerOp.GETINFO:
        usual = vcpu_reservation()
        flags = {"u.rtds.flags": 0} if "u.rtds.flags" in call.layout.index else {}
        call.answer(**{"u.rtds.period": usual["period"], "u.rtds.budget": usual["budget"]}, **flags)
        return
    period, budget = call["u.rtds.period"], call["u.rtds.budget"]
    if not period or not budget:
        raise Refusal(XenErrno.EINVAL)
    for vcpu in call.domain.live_vcpus:
        vcpu.reservation.update(period=period, budget=budget)
    call.answer()


def _vcpus(call: Call) -> None:
    """One vcpu of the array after the other; those before a mistake have been done."""
    layout = call.xen.layout(domctl_scheduler.SCHEDPARAM_VCPU_RTDS_STRUCT)
    for index in range(call["u.v.nr_vcpus"]):
        place = call["u.v.vcpus"] + index * layout.size
        asked = layout.unpack(call.memory.read(place, layout.size))
        vcpu = _vcpu(call.domain, asked["vcpuid"])
        if call["op"] == SchedulerOp.PUTVCPUINFO:
            _reserve(vcpu, asked)
        else:
            told = {f"u.rtds.{name}": value for name, value in vcpu.reservation.items()}
            known = {name: value for name, value in told.items() if name in layout.index}
            call.memory.write(place, layout.pack({"vcpuid": vcpu.index, **known}))
    call.answer()


def _vcpu(domain: Domain, index: int) -> Vcpu:
    vcpu = domain.vcpu(index)
    if vcpu is None:
        raise Refusal(XenErrno.EINVAL)
    return vcpu


def _reserve(vcpu: Vcpu, asked: Mapping[str, int]) -> None:
    period, budget = asked["u.rtds.period"], asked["u.rtds.budget"]
    if not _LEAST_US <= budget <= period:
        raise Refusal(XenErrno.EINVAL)
    vcpu.reservation.update(period=period, budget=budget)
    if "u.rtds.flags" in asked:
        vcpu.reservation["flags"] = asked["u.rtds.flags"] & RtdsFlag.EXTRA


@handles(
    sysctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT,
    sysctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT,
    sysctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2,
    sysctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT2,
)
def of_pool(call: Call) -> None:
    """A scheduler without such parameters takes everything and does nothing."""
    if call["op"] not in (sysctl_scheduler.SchedulerOp.GETINFO, sysctl_scheduler.SchedulerOp.PUTINFO):
        raise Refusal(XenErrno.EINVAL)
    pool = call.xen.pools.get(call["cpupool_id"])
    if pool is None:
        raise Refusal(XenErrno.ESRCH)
    if call["sched_id"] != pool.scheduler:
        raise Refusal(XenErrno.EINVAL)
    if pool.params:
        _pool_params(call.reading(_OF_POOLS[pool.scheduler]), pool)
    else:
        call.answer()


def _pool_params(call: Call, pool: CpuPool) -> None:
    prefix = f"u.sched_{Scheduler(pool.scheduler).name.lower()}."
    names = [name for name in pool.params if prefix + name in call.layout.index]
    if call["op"] == sysctl_scheduler.SchedulerOp.PUTINFO:
        wanted = {name: call[prefix + name] for name in names}
        if not _acceptable(wanted):
            raise Refusal(XenErrno.EINVAL)
        pool.params.update(wanted)
    call.answer(**{prefix + name: pool.params[name] for name in names})


def _acceptable(params: Mapping[str, int]) -> bool:
    ratelimit_us, tslice_ms = params["ratelimit_us"], params.get("tslice_ms", sysctl_scheduler.TSLICE_MAX)
    return all(
        (
            sysctl_scheduler.TSLICE_MIN <= tslice_ms <= sysctl_scheduler.TSLICE_MAX,
            not ratelimit_us
            or sysctl_scheduler.RATELIMIT_MIN <= ratelimit_us <= sysctl_scheduler.RATELIMIT_MAX,
            ratelimit_us <= tslice_ms * 1000,
            params.get("vcpu_migr_delay_us", 0) <= sysctl_scheduler.MGR_DLY_MAX_US,
        )
    )
