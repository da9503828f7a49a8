# SPDX-License-Identifier: MIT
"""Which vcpu runs where: no time slices, only a fair picture of a host at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pyxc.sim.model.domain import Domain, RunState, Vcpu


def schedule(
    vcpus: Iterable[Vcpu],
    cpus_of: Callable[[Domain], int],
    now: int,
    changing: Callable[[Vcpu, RunState, int], None],
) -> None:
    """Let runnable vcpus run, one on each pcpu of their hard affinity, the first ones first; the rest wait.

    `cpus_of` returns the pcpus of a domain's pool as a bit mask; `now` is the time in nanoseconds; `changing`
    is called before a vcpu changes its state.
    """
    taken: set[int] = set()
    for vcpu in vcpus:
        state = _next_state(vcpu, cpus_of(vcpu.domain), taken)
        if state is not vcpu.state:
            changing(vcpu, state, now)
        vcpu.enter(state, now)


def _next_state(vcpu: Vcpu, pool: int, taken: set[int]) -> RunState:
    if not vcpu.runnable:
        return RunState.BLOCKED if vcpu.blocked else RunState.OFFLINE
    usable = vcpu.hard & pool or pool
    allowed = [pcpu for pcpu in (vcpu.pcpu, *range(pool.bit_length())) if usable >> pcpu & 1]
    free = [pcpu for pcpu in allowed if pcpu not in taken]
    vcpu.pcpu = (free or allowed)[0]
    if not free:
        return RunState.RUNNABLE
    taken.add(vcpu.pcpu)
    return RunState.RUNNING
