# SPDX-License-Identifier: MIT
"""Parameters of the credit2 scheduler, which pool 0 has, and of the credit scheduler in a pool of its own."""

from __future__ import annotations

from callscripts import POOL_ID, Script
from pyxc import Scheduler
from pyxc.abi import domctl_scheduler, sysctl_cpupool, sysctl_scheduler
from pyxc.abi.operation import Operation

NOT_ON_DOM0 = (domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT2,)
ABSENT_POOL = 77
MOST_OF_TWO_VCPUS = 200


def run(script: Script) -> None:
    pv = script.pv()
    domain_under_credit2(script, pv)
    pool_under_credit2(script)
    script.pool(Scheduler.CREDIT)
    script.xen.call(sysctl_cpupool.CPUPOOL_OP_MOVEDOMAIN, pv, cpupool_id=POOL_ID)
    domain_under_credit(script, pv)
    pool_under_credit(script)
    script.xen.call(sysctl_cpupool.CPUPOOL_OP_MOVEDOMAIN, pv, cpupool_id=0)
    script.step("moved back", domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2, pv)


def domain_under_credit2(script: Script, pv: int) -> None:
    get = domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2
    script.step("success", get, pv)
    script.step("other scheduler", domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT, pv)
    script.step("other scheduler", domctl_scheduler.SCHEDULER_OP_GETINFO_RTDS, pv)
    script.step("other scheduler", domctl_scheduler.SCHEDULER_OP_GETVCPUINFO_RTDS, pv)
    for case, weight, cap in (
        ("success", 512, 50),
        ("weight", 300, 0),
        ("cap", 0, MOST_OF_TWO_VCPUS),
        ("too much", 301, MOST_OF_TWO_VCPUS + 1),
        ("nothing", 0, 0),
    ):
        put(script, case, get, domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT2, pv, credit2=(weight, cap))


def domain_under_credit(script: Script, pv: int) -> None:
    get = domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT
    script.step("success", get, pv)
    script.step("other scheduler", domctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2, pv)
    for case, weight, cap in (
        ("success", 512, 50),
        ("nothing", 0, 0),
        ("leave", 0, 0xFFFF),
        ("too much", 1, MOST_OF_TWO_VCPUS + 1),
    ):
        put(script, case, get, domctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT, pv, credit=(weight, cap))


def put(
    script: Script, case: str, get: Operation, operation: Operation, pv: int, **shares: tuple[int, int]
) -> None:
    """Set weight and cap, and look what they are now."""
    fields = {}
    for scheduler, (weight, cap) in shares.items():
        fields = {f"u.{scheduler}.weight": weight, f"u.{scheduler}.cap": cap}
    script.step(case, operation, pv, **fields)
    script.step(f"after {case}", get, pv)


def pool_under_credit2(script: Script) -> None:
    """In the end pool 0 is as it was."""
    get, put = (
        sysctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT2,
        sysctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT2,
    )
    script.step("success", get, cpupool_id=0)
    script.step("missing pool", get, cpupool_id=ABSENT_POOL)
    script.step("other scheduler", sysctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT, cpupool_id=0)
    for case, ratelimit_us in (("success", 2000), ("too little", 99), ("too much", 500_001), ("none", 0)):
        script.step(case, put, **{"cpupool_id": 0, "u.sched_credit2.ratelimit_us": ratelimit_us})
        script.step(f"after {case}", get, cpupool_id=0)
    script.xen.call(put, **{"cpupool_id": 0, "u.sched_credit2.ratelimit_us": 1000})


def pool_under_credit(script: Script) -> None:
    get = sysctl_scheduler.SCHEDULER_OP_GETINFO_CREDIT
    script.step("success", get, cpupool_id=POOL_ID)
    for case, tslice_ms, ratelimit_us, delay_us in (
        ("success", 5, 100, 100_000),
        ("no time slice", 0, 0, 0),
        ("too much time slice", 1001, 0, 0),
        ("too little ratelimit", 5, 99, 0),
        ("too much ratelimit", 1000, 500_001, 0),
        ("more ratelimit than time slice", 1, 1001, 0),
        ("too much delay", 5, 100, 100_001),
    ):
        fields = {
            "u.sched_credit.tslice_ms": tslice_ms,
            "u.sched_credit.ratelimit_us": ratelimit_us,
            "u.sched_credit.vcpu_migr_delay_us": delay_us,
        }
        script.step(case, sysctl_scheduler.SCHEDULER_OP_PUTINFO_CREDIT, cpupool_id=POOL_ID, **fields)
    script.step("after all", get, cpupool_id=POOL_ID)
