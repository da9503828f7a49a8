# SPDX-License-Identifier: MIT
"""Cpu pools."""

from __future__ import annotations

import errno
import time

from callscripts import ABSENT_DOMID, POOL_ID, Script, Volatile
from callscripts.vcpus import ALL_CPUS, BOTH, HARD, MAPS, SOFT
from pyxc import Pool, Scheduler
from pyxc.abi import domctl, sysctl, sysctl_cpupool
from pyxc.abi.sysctl_cpupool import CPUPOOL_ANY

VOLATILE = Volatile(fields=("cpu",))
ABSENT_POOL = 77
ABSENT_CPU = 4096
EMPTY_POOL = 4
UNKNOWN_SCHEDULER = 99
CREDIT2 = int(Scheduler.CREDIT2)
"""A pool under credit would have to lose its last cpu with care, see Pool.remove_cpu()."""
ROOM = {"cpumap.bitmap": 8, "cpumap.nr_bits": 64}
CPU_0 = {**ALL_CPUS, "cpumap_hard.bitmap": b"\x01" + bytes(7), "cpumap_soft.bitmap": b"\x01" + bytes(7)}


def run(script: Script) -> None:
    script.step("success", sysctl.SCHED_ID)
    pools_come_and_go(script)
    script.pools.append(Pool(script.xen, EMPTY_POOL))
    script.xen.pools.create(Scheduler.CREDIT2, pool_id=EMPTY_POOL)
    script.pools.append(Pool(script.xen, POOL_ID))
    script.step("success", sysctl_cpupool.CPUPOOL_OP_CREATE, sched_id=CREDIT2, cpupool_id=POOL_ID)
    cpus(script)
    domains(script)
    script.step("success", sysctl_cpupool.CPUPOOL_OP_ADDCPU, cpupool_id=0, cpu=1)


def pools_come_and_go(script: Script) -> None:
    script.step("success", sysctl_cpupool.CPUPOOL_OP_INFO, cpupool_id=0, **ROOM)
    script.step("missing pool", sysctl_cpupool.CPUPOOL_OP_INFO, cpupool_id=ABSENT_POOL, **ROOM)
    script.step("any", sysctl_cpupool.CPUPOOL_OP_INFO, cpupool_id=CPUPOOL_ANY, **ROOM)
    for case, taken, scheduler in (
        ("taken id", 0, CREDIT2),
        ("unknown scheduler", POOL_ID, UNKNOWN_SCHEDULER),
        ("taken id, unknown scheduler", 0, UNKNOWN_SCHEDULER),
    ):
        script.step(case, sysctl_cpupool.CPUPOOL_OP_CREATE, sched_id=scheduler, cpupool_id=taken)
    made = script.step("any", sysctl_cpupool.CPUPOOL_OP_CREATE, sched_id=CREDIT2, cpupool_id=CPUPOOL_ANY)
    script.without_mistakes(sysctl_cpupool.CPUPOOL_OP_CREATE)
    script.step("next", sysctl_cpupool.CPUPOOL_OP_INFO, cpupool_id=1, **ROOM)
    if made is not None:
        script.step("success", sysctl_cpupool.CPUPOOL_OP_DESTROY, cpupool_id=made.field("cpupool_id"))
    script.step("missing pool", sysctl_cpupool.CPUPOOL_OP_DESTROY, cpupool_id=ABSENT_POOL)
    script.step("pool 0", sysctl_cpupool.CPUPOOL_OP_DESTROY, cpupool_id=0)


def cpus(script: Script) -> None:
    """In the end cpu 1 is free."""
    script.step("none", sysctl_cpupool.CPUPOOL_OP_FREEINFO, **ROOM)
    script.step("none is free", sysctl_cpupool.CPUPOOL_OP_ADDCPU, cpupool_id=POOL_ID, cpu=CPUPOOL_ANY)
    remove_cpu(script, "of another pool", POOL_ID, 1)
    remove_cpu(script, "any of none", POOL_ID, CPUPOOL_ANY)
    remove_cpu(script, "missing cpu", 0, ABSENT_CPU)
    remove_cpu(script, "missing pool", ABSENT_POOL, 1)
    remove_cpu(script, "missing cpu and pool", ABSENT_POOL, ABSENT_CPU)
    remove_cpu(script, "success", 0, 1)
    remove_cpu(script, "gone already", 0, 1)
    remove_cpu(script, "last of pool 0", 0, 0)
    script.step("success", sysctl_cpupool.CPUPOOL_OP_FREEINFO, **ROOM)
    script.step("missing pool", sysctl_cpupool.CPUPOOL_OP_ADDCPU, cpupool_id=ABSENT_POOL, cpu=1)
    script.step("missing cpu", sysctl_cpupool.CPUPOOL_OP_ADDCPU, cpupool_id=POOL_ID, cpu=ABSENT_CPU)
    script.step("taken cpu", sysctl_cpupool.CPUPOOL_OP_ADDCPU, cpupool_id=POOL_ID, cpu=0)


def remove_cpu(script: Script, case: str, pool_id: int, cpu: int) -> None:
    """A cpu that a vcpu cannot leave at the moment (EAGAIN) can be taken a little later."""
    operation = sysctl_cpupool.CPUPOOL_OP_RMCPU
    for _ in range(100):
        script.step(case, operation, cpupool_id=pool_id, cpu=cpu)
        if script.outcomes[f"{operation.full_name}/{case}"].get("errno") != errno.EAGAIN:
            return
        time.sleep(0.05)


def domains(script: Script) -> None:
    """A domain goes to the other pool and comes back."""
    pv, move = script.pv(), sysctl_cpupool.CPUPOOL_OP_MOVEDOMAIN
    script.step("no cpus", move, pv, cpupool_id=POOL_ID)
    script.step("any free", sysctl_cpupool.CPUPOOL_OP_ADDCPU, cpupool_id=POOL_ID, cpu=CPUPOOL_ANY)
    script.step("missing domain and pool", move, ABSENT_DOMID, cpupool_id=ABSENT_POOL)
    script.step("missing pool", move, pv, cpupool_id=ABSENT_POOL)
    script.step("same pool", move, pv, cpupool_id=0)
    script.xen.call(domctl.SETVCPUAFFINITY, pv, vcpu=0, flags=BOTH, **CPU_0)
    script.step("success", move, pv, cpupool_id=POOL_ID)
    script.step("in a pool", domctl.GETDOMAININFO, pv)
    script.step("one domain", sysctl_cpupool.CPUPOOL_OP_INFO, cpupool_id=POOL_ID, **ROOM)
    script.step("in a pool", domctl.GETVCPUAFFINITY, pv, vcpu=0, flags=BOTH, **MAPS)
    script.step("outside the pool", domctl.SETVCPUAFFINITY, pv, vcpu=0, flags=HARD, **CPU_0)
    script.step("prefers outside the pool", domctl.SETVCPUAFFINITY, pv, vcpu=0, flags=SOFT, **CPU_0)
    script.step("partly in the pool", domctl.SETVCPUAFFINITY, pv, vcpu=0, flags=BOTH, **ALL_CPUS)
    script.without_mistakes(domctl.GETDOMAININFO, domctl.GETVCPUAFFINITY, domctl.SETVCPUAFFINITY)
    script.step("busy", sysctl_cpupool.CPUPOOL_OP_DESTROY, cpupool_id=POOL_ID)
    remove_cpu(script, "last", POOL_ID, 1)
    script.step("back", move, pv, cpupool_id=0)
    script.step("with a cpu", sysctl_cpupool.CPUPOOL_OP_DESTROY, cpupool_id=POOL_ID)
    remove_cpu(script, "any", POOL_ID, CPUPOOL_ANY)
