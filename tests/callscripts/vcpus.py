# SPDX-License-Identifier: MIT
"""State and affinity of vcpus, one by one and all at once."""

from __future__ import annotations

from callscripts import ABSENT_DOMID, Script, Volatile
from pyxc.abi import domctl
from pyxc.abi.domctl import AffinityFlag

VOLATILE = Volatile(fields=("cpu",))
BOTH = int(AffinityFlag.HARD | AffinityFlag.SOFT)
HARD, SOFT = int(AffinityFlag.HARD), int(AffinityFlag.SOFT)
MAPS = {
    "cpumap_hard.bitmap": 8,
    "cpumap_hard.nr_bits": 64,
    "cpumap_soft.bitmap": 8,
    "cpumap_soft.nr_bits": 64,
}
ALL_CPUS = {**MAPS, "cpumap_hard.bitmap": b"\x03" + bytes(7), "cpumap_soft.bitmap": b"\x03" + bytes(7)}
ONE_CPU = {**ALL_CPUS, "cpumap_hard.bitmap": b"\x02" + bytes(7)}
NO_CPUS = {**MAPS, "cpumap_hard.bitmap": bytes(8), "cpumap_soft.bitmap": bytes(8)}


def run(script: Script) -> None:
    pv = script.pv()
    script.step("success", domctl.GETVCPUINFO, pv, vcpu=1)
    script.step("success", domctl.GETVCPUAFFINITY, pv, vcpu=0, flags=BOTH, **MAPS)
    script.step("success", domctl.SETVCPUAFFINITY, pv, vcpu=0, flags=BOTH, **ALL_CPUS)
    script.step("no cpu", domctl.SETVCPUAFFINITY, pv, vcpu=0, flags=HARD, **NO_CPUS)
    script.step("one cpu", domctl.SETVCPUAFFINITY, pv, vcpu=1, flags=HARD, **ONE_CPU)
    script.step("after pinning", domctl.GETVCPUAFFINITY, pv, vcpu=1, flags=BOTH, **MAPS)
    at_once(script, pv)


def at_once(script: Script, pv: int) -> None:
    """All vcpus in one multicall; one that does not exist fails alone."""
    infos = [info for info in script.xen.vcpus() if info.domid == pv]
    script.outcomes["multicall/infos"] = {
        "vcpus": [[info.vcpu, info.online, info.cpu_time_ns] for info in infos]
    }
    affinity = script.xen.affinities()[pv, 1]
    script.outcomes["multicall/affinity"] = {"hard": sorted(affinity.hard), "soft": sorted(affinity.soft)}
    batch = script.xen.caller.batch(domctl.GETVCPUINFO, 2, domid=[pv, ABSENT_DOMID], vcpu=0)
    script.outcomes["multicall/one fails"] = {"results": batch.results}
