# SPDX-License-Identifier: MIT
"""Performance and idle states of cpus: an emulated machine has two idle states and no frequencies."""

from __future__ import annotations

from callscripts import Script, Volatile
from pyxc.abi import pm

VOLATILE = Volatile(
    fields=("u.getcx.last", "u.getcx.idle_time", "u.getcx.triggers", "u.getcx.residencies"),
)
ABSENT_CPU = 4096


def run(script: Script) -> None:
    for operation in (
        pm.GET_PMSTAT_MAX_PX, pm.GET_PMSTAT_PXSTAT, pm.GET_PMSTAT_MAX_CX, pm.GET_PMSTAT_CXSTAT,
        pm.PM_OP_GET_PARA,
    ):  # fmt: skip
        script.step("first cpu", operation, cpuid=0)
        script.step("missing cpu", operation, cpuid=ABSENT_CPU)
    script.step("success", pm.GET_PMSTAT_MAX_CX, cpuid=1)
    lists = {"u.getcx.triggers": 16, "u.getcx.residencies": 16}
    script.step("success", pm.GET_PMSTAT_CXSTAT, cpuid=1, **{"u.getcx.nr": 2}, **lists)
    script.step("room for one", pm.GET_PMSTAT_CXSTAT, cpuid=1, **{"u.getcx.nr": 1}, **lists)
    script.step("success", pm.PM_OP_GET_MAX_CSTATE)
    script.step("sub-state", pm.PM_OP_GET_MAX_CSTATE, cpuid=1)
    script.step("beyond the sub-states", pm.PM_OP_GET_MAX_CSTATE, cpuid=2)
