# SPDX-License-Identifier: MIT
"""What the host has, and its console."""

from __future__ import annotations

from callscripts import Script, Volatile
from pyxc.abi import memory, sysctl

VOLATILE = Volatile(
    fields="total_pages free_pages scrub_pages max_mfn cpu_khz hw_cap max_node_id nr_nodes num_nodes meminfo "
    "distance info cputopo idletime avail_bytes index count buffer extent_start".split(),
    results=(memory.MAXIMUM_RAM_PAGE,),
)


def run(script: Script) -> None:
    script.step("success", sysctl.PHYSINFO)
    script.step("success", memory.MAXIMUM_RAM_PAGE)
    script.step("success", memory.MACHPHYS_MFN_LIST, max_extents=1, extent_start=8)
    domains(script)
    processors_and_nodes(script)
    console(script)


def domains(script: Script) -> None:
    script.step("success", sysctl.GETDOMAININFOLIST, first_domain=0, max_domains=1, buffer=256)
    script.step("no room", sysctl.GETDOMAININFOLIST, first_domain=0, max_domains=0, buffer=256)
    script.step("oversized list", sysctl.GETDOMAININFOLIST, max_domains=2**31, buffer=1 << 16)
    script.step("beyond the last", sysctl.GETDOMAININFOLIST, first_domain=0x7FEF, max_domains=1, buffer=256)


def processors_and_nodes(script: Script) -> None:
    script.step("success", sysctl.CPUTOPOINFO, num_cpus=2, cputopo=24)
    script.step("size", sysctl.CPUTOPOINFO, num_cpus=0)
    script.step("oversized list", sysctl.CPUTOPOINFO, num_cpus=4096, cputopo=12 * 4096)
    script.step("success", sysctl.NUMAINFO, num_nodes=1, meminfo=16, distance=4)
    script.step("size", sysctl.NUMAINFO, num_nodes=0)
    script.step("success", sysctl.GETCPUINFO, max_cpus=2, info=16)
    script.step("oversized list", sysctl.GETCPUINFO, max_cpus=4096, info=8 * 4096)
    script.step("success", sysctl.AVAILHEAP, min_bitwidth=0, max_bitwidth=0, node=-1)


def console(script: Script) -> None:
    script.step("success", sysctl.READCONSOLE, buffer=1024, count=1024)
    script.step("incremental", sysctl.READCONSOLE, buffer=1024, count=1024, incremental=1, index=0)
    script.step("success", sysctl.DEBUG_KEYS, keys=b"h", nr_keys=1)
    script.step("success", sysctl.READCONSOLE_CLEAR, buffer=1024, count=1024)
