# SPDX-License-Identifier: MIT
"""Which vcpu runs where: no time slices, only a fair picture of a host at one moment."""

from __future__ import annotations

from collections.abc import Iterable

from pyxc.sim.domain import RunState, Vcpu


def schedule(vcpus: Iterable[Vcpu], pcpus: int, now: int) -> None:
    """Let runnable vcpus run, one on each pcpu of their hard affinity, the first ones first; the rest wait.

    `now` is the time of the change in nanoseconds.
    """
    taken: set[int] = set()
    for vcpu in vcpus:
        vcpu.enter(_next_state(vcpu, pcpus, taken), now)


def _next_state(vcpu: Vcpu, pcpus: int, taken: set[int]) -> RunState:
    if not vcpu.runnable:
        return RunState.BLOCKED if vcpu.blocked else RunState.OFFLINE
    allowed = [pcpu for pcpu in (vcpu.pcpu, *range(pcpus)) if vcpu.hard >> pcpu & 1]
    free = [pcpu for pcpu in allowed if pcpu not in taken]
    vcpu.pcpu = (free or allowed)[0]
    if not free:
        return RunState.RUNNABLE
    taken.add(vcpu.pcpu)
    return RunState.RUNNING
