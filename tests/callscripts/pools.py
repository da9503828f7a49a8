# SPDX-License-Identifier: MIT
"""Cpu pools and schedulers."""

from __future__ import annotations

from callscripts import Script
from pyxc.abi import sysctl

CPUS = {"cpumap.bitmap": 8, "cpumap.nr_bits": 64}


def run(script: Script) -> None:
    script.step("success", sysctl.SCHED_ID)
    script.step("success", sysctl.CPUPOOL_OP_INFO, cpupool_id=0, **CPUS)
    script.step("missing pool", sysctl.CPUPOOL_OP_INFO, cpupool_id=7, **CPUS)
