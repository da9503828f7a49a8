# SPDX-License-Identifier: MIT
"""sysctl cpupool_op: pools come, change and go."""

from __future__ import annotations

from collections.abc import Callable

from pyxc.abi import sysctl_cpupool
from pyxc.abi.errno import XenErrno
from pyxc.abi.sysctl_cpupool import CPUPOOL_ANY, CpupoolOp
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.cpupools import CpuPool, domain_share, vcpu_reservation
from pyxc.sim.model.domain import Domain
from pyxc.sim.ops.bitmap import write_bitmap
from pyxc.sim.ops.call import Call, handles


@handles(
    sysctl_cpupool.CPUPOOL_OP_CREATE,
    sysctl_cpupool.CPUPOOL_OP_DESTROY,
    sysctl_cpupool.CPUPOOL_OP_INFO,
    sysctl_cpupool.CPUPOOL_OP_ADDCPU,
    sysctl_cpupool.CPUPOOL_OP_RMCPU,
    sysctl_cpupool.CPUPOOL_OP_MOVEDOMAIN,
    sysctl_cpupool.CPUPOOL_OP_FREEINFO,
)
def cpupool_op(call: Call) -> None:
    operation = _OPERATIONS.get(call["op"])
    if operation is None:
        raise Refusal(XenErrno.ENOSYS)
    operation(call)


def _pool(call: Call) -> CpuPool:
    pool = call.xen.pools.get(call["cpupool_id"])
    if pool is None:
        raise Refusal(XenErrno.ENOENT)
    return pool


def _residents(call: Call, pool: CpuPool) -> list[Domain]:
    return [domain for domain in call.xen.domains.values() if domain.pool_id == pool.pool_id]


def _create(call: Call) -> None:
    pools, wanted = call.xen.pools, call["cpupool_id"]
    pool_id = max(pools) + 1 if wanted == CPUPOOL_ANY else wanted
    if pool_id in pools:
        raise Refusal(XenErrno.EEXIST)
    if call["sched_id"] not in call.xen.profile.schedulers:
        raise Refusal(XenErrno.ENOENT)
    pools[pool_id] = CpuPool(pool_id, call["sched_id"])
    call.answer(cpupool_id=pool_id)


def _destroy(call: Call) -> None:
    pool = _pool(call)
    if pool.cpus or _residents(call, pool):
        raise Refusal(XenErrno.EBUSY)
    del call.xen.pools[pool.pool_id]
    call.answer()


def _info(call: Call) -> None:
    """The pool with this id or the next one. In 4.14 ids had a sign, so that any was before the first."""
    xen, wanted = call.xen, call["cpupool_id"]
    if wanted == CPUPOOL_ANY and not xen.profile.since(4, 15):
        wanted = -1
    following = [pool_id for pool_id in sorted(xen.pools) if pool_id >= wanted]
    if not following:
        raise Refusal(XenErrno.ENOENT)
    pool = xen.pools[following[0]]
    write_bitmap(call, "cpumap", pool.cpus, xen.possible_pcpus)
    n_dom = len(_residents(call, pool))
    call.answer(cpupool_id=pool.pool_id, sched_id=int(pool.scheduler), n_dom=n_dom)


def _add_cpu(call: Call) -> None:
    """Before 4.14 any cpu, where none is free, is one that does not exist."""
    xen, cpu = call.xen, call["cpu"]
    free = xen.free_cpus
    if cpu == CPUPOOL_ANY:
        if not free and xen.profile.since(4, 14):
            raise Refusal(XenErrno.ENODEV)
        cpu = (free & -free).bit_length() - 1 if free else xen.pcpus
    if cpu >= xen.pcpus:
        raise Refusal(XenErrno.EINVAL)
    if not free >> cpu & 1:
        raise Refusal(XenErrno.ENODEV)
    _pool(call).cpus |= 1 << cpu
    xen.schedule()
    call.answer()


def _remove_cpu(call: Call) -> None:
    """The last cpu of a pool may go when its domains are dying; they die in pool 0."""
    xen, pool, cpu = call.xen, _pool(call), call["cpu"]
    if cpu == CPUPOOL_ANY and pool.cpus:
        cpu = pool.cpus.bit_length() - 1
    if cpu >= xen.pcpus:
        raise Refusal(XenErrno.EINVAL)
    if not pool.cpus >> cpu & 1:
        raise Refusal(XenErrno.EADDRNOTAVAIL)
    if pool.cpus == 1 << cpu:
        _evacuate(call, pool)
    pool.cpus &= ~(1 << cpu)
    xen.schedule()
    call.answer()


def _evacuate(call: Call, pool: CpuPool) -> None:
    residents = _residents(call, pool)
    if not all(domain.dying for domain in residents):
        lasting = pool.pool_id == 0 and call.xen.profile.since(4, 17)
        raise Refusal(XenErrno.EINVAL if lasting else XenErrno.EBUSY)
    for domain in residents:
        domain.pool_id = 0


def _move_domain(call: Call) -> None:
    """In another pool it gets the default parameters and all cpus, even under the same scheduler."""
    xen = call.xen
    domain = xen.find(call["domid"])
    if domain is xen.current.domain:
        raise Refusal(XenErrno.EPERM)
    if call["cpupool_id"] != domain.pool_id:
        pool = _pool(call)
        if not pool.cpus:
            raise Refusal(XenErrno.ENOENT)
        domain.pool_id, domain.share = pool.pool_id, domain_share()
        for vcpu in domain.live_vcpus:
            vcpu.hard = vcpu.soft = (1 << xen.possible_pcpus) - 1
            vcpu.reservation = vcpu_reservation()
        xen.schedule()
    call.answer()


def _free_info(call: Call) -> None:
    write_bitmap(call, "cpumap", call.xen.free_cpus, call.xen.possible_pcpus)
    call.answer()


_OPERATIONS: dict[int, Callable[[Call], None]] = {
    CpupoolOp.CREATE: _create,
    CpupoolOp.DESTROY: _destroy,
    CpupoolOp.INFO: _info,
    CpupoolOp.ADDCPU: _add_cpu,
    CpupoolOp.RMCPU: _remove_cpu,
    CpupoolOp.MOVEDOMAIN: _move_domain,
    CpupoolOp.FREEINFO: _free_info,
}
