# SPDX-License-Identifier: MIT
"""Cpu pools and what schedulers keep, as the simulated hypervisor has them."""

from __future__ import annotations

from pyxc.abi.domctl import Scheduler

_POOL_DEFAULTS = {
    Scheduler.CREDIT: {"tslice_ms": 30, "ratelimit_us": 1000, "vcpu_migr_delay_us": 0},
    Scheduler.CREDIT2: {"ratelimit_us": 1000},
}


def domain_share() -> dict[str, int]:
    """What credit and credit2 keep of a domain that is new in its pool."""
    return {"weight": 256, "cap": 0}


def vcpu_reservation() -> dict[str, int]:
    """What rtds keeps of a vcpu that is new in its pool."""
    return {"period": 10_000, "budget": 4_000, "flags": 1}


class CpuPool:
    """One pool. `cpus` is a set of pcpus as a bit mask."""

    def __init__(self, pool_id: int, scheduler: int, cpus: int = 0) -> None:
        self.pool_id = pool_id
        self.scheduler = scheduler
        self.cpus = cpus
        self.params = dict(_POOL_DEFAULTS.get(Scheduler(scheduler), {}))

    def __repr__(self) -> str:
        return f"<sim CpuPool {self.pool_id}, {Scheduler(self.scheduler).name.lower()}, cpus {self.cpus:#b}>"
