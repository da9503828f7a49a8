# SPDX-License-Identifier: MIT
"""Parameters of the rtds scheduler, where a hypervisor was built with it.

The last script: Xen crashes when its pool loses the cpu, which therefore stays there.
"""

from __future__ import annotations

from callscripts import POOL_ID, Script
from pyxc import Scheduler
from pyxc.abi import domctl_scheduler, sysctl_cpupool
from pyxc.abi.operation import Operation

BOTH_VCPUS = (0, 1)


def run(script: Script) -> None:
    create = {"sched_id": int(Scheduler.RTDS), "cpupool_id": POOL_ID}
    made = script.step("rtds", sysctl_cpupool.CPUPOOL_OP_CREATE, **create)
    script.without_mistakes(sysctl_cpupool.CPUPOOL_OP_CREATE)
    if made is None:
        return
    script.xen.call(sysctl_cpupool.CPUPOOL_OP_DESTROY, cpupool_id=POOL_ID)
    script.pool(Scheduler.RTDS)
    pv = script.pv()
    script.xen.call(sysctl_cpupool.CPUPOOL_OP_MOVEDOMAIN, pv, cpupool_id=POOL_ID)
    vcpus(script, pv)
    domain(script, pv)


def vcpus(script: Script, pv: int) -> None:
    show(script, "success", pv, *BOTH_VCPUS)
    show(script, "none", pv)
    show(script, "missing vcpu", pv, 0, 7)
    for case, period, budget, flags in (
        ("success", 30_000, 3_000, 0),
        ("extratime", 30_000, 3_000, 1),
        ("unknown flags", 30_000, 3_000, 6),
        ("too little", 10, 9, 0),
        ("least", 10, 10, 0),
        ("more budget than period", 100, 101, 0),
        ("most", 2**32 - 1, 10, 0),
    ):
        reserve(script, case, pv, (0, period, budget, flags))
        show(script, f"after {case}", pv, *BOTH_VCPUS)
    reserve(script, "second is wrong", pv, (0, 77, 55, 0), (1, 5, 5, 0))
    show(script, "after second is wrong", pv, *BOTH_VCPUS)


def show(script: Script, case: str, pv: int, *vcpus: int) -> None:
    asked = [(vcpu, 0, 0, 0) for vcpu in vcpus]
    _array(script, case, domctl_scheduler.SCHEDULER_OP_GETVCPUINFO_RTDS, pv, *asked)


def reserve(script: Script, case: str, pv: int, *vcpus: tuple[int, int, int, int]) -> None:
    _array(script, case, domctl_scheduler.SCHEDULER_OP_PUTVCPUINFO_RTDS, pv, *vcpus)


def _array(script: Script, case: str, operation: Operation, pv: int, *vcpus: tuple[int, ...]) -> None:
    layout = domctl_scheduler.SCHEDPARAM_VCPU_RTDS_STRUCT.at(script.xen.interface)
    names = ("vcpuid", "u.rtds.period", "u.rtds.budget", "u.rtds.flags")
    data = b"".join(layout.pack(dict(zip(names, vcpu))) for vcpu in vcpus)
    script.step(case, operation, pv, **{"u.v.vcpus": data or 0, "u.v.nr_vcpus": len(vcpus)})


def domain(script: Script, pv: int) -> None:
    """It sets all vcpus, whatever it is, and shows what a new one gets."""
    get = domctl_scheduler.SCHEDULER_OP_GETINFO_RTDS
    script.step("success", get, pv)
    for case, period, budget, flags in (
        ("success", 20_000, 5_000, 0),
        ("nothing", 0, 0, 0),
        ("more budget than period", 100, 200, 0),
        ("extratime", 20_000, 5_000, 1),
    ):
        fields = {"u.rtds.period": period, "u.rtds.budget": budget, "u.rtds.flags": flags}
        script.step(case, domctl_scheduler.SCHEDULER_OP_PUTINFO_RTDS, pv, **fields)
        show(script, f"after {case} for all", pv, *BOTH_VCPUS)
    script.step("after all", get, pv)
