# SPDX-License-Identifier: MIT
"""Operations by the name of their hypercall and their own name, for raw calls."""

from __future__ import annotations

import difflib
from functools import cache

from pyxc.abi import (
    cpu_policy,
    dm_op,
    dom0_ops,
    domctl,
    domctl_debug,
    domctl_hvm,
    domctl_paging,
    domctl_pci,
    domctl_permissions,
    domctl_scheduler,
    domctl_sharing,
    domctl_state,
    domctl_tsc,
    domctl_vcpu,
    domctl_vnuma,
    event_channel,
    flask,
    grant_table,
    hvm,
    hypfs,
    livepatch,
    lockprof,
    memory,
    mmuext,
    perfc,
    physdev,
    pm,
    sched,
    sysctl,
    sysctl_cpupool,
    sysctl_scheduler,
    trace,
    version,
)
from pyxc.abi.operation import Family, Operation

_MODULES = (
    cpu_policy, dm_op, dom0_ops, domctl, domctl_debug, domctl_hvm, domctl_paging, domctl_pci,
    domctl_permissions, domctl_scheduler, domctl_sharing, domctl_state, domctl_tsc, domctl_vcpu,
    domctl_vnuma, event_channel, flask, grant_table, hvm, hypfs, livepatch, lockprof, memory, mmuext,
    perfc, physdev, pm, sched, sysctl, sysctl_cpupool, sysctl_scheduler, trace, version,
)  # fmt: skip


@cache
def of_family(family: Family) -> dict[str, Operation]:
    """All operations of a hypercall by name."""
    found = [value for module in _MODULES for value in vars(module).values() if isinstance(value, Operation)]
    return {asked.name: asked for asked in found if asked.family is family}


def named(family: Family, name: str) -> Operation:
    """The operation of a hypercall with a name. ValueError, with similar names, if there is none."""
    known = of_family(family)
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known)) or ", ".join(sorted(known))
        raise ValueError(f"{family.name} has no operation {name!r}; expected one of {near}")
    return known[name]
