# SPDX-License-Identifier: MIT
"""HVM parameters."""

from __future__ import annotations

from callscripts import Script
from pyxc.abi import hvm
from pyxc.abi.hvm import HvmParam

CONSOLE = int(HvmParam.CONSOLE_PFN)


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    script.step("success", hvm.GET_PARAM, pvh, index=CONSOLE)
    script.step("pv", hvm.GET_PARAM, pv, index=CONSOLE)
    script.step("unknown param", hvm.GET_PARAM, pvh, index=999)
    script.step("success", hvm.SET_PARAM, pvh, index=CONSOLE, value=0x1234)
    script.step("pv", hvm.SET_PARAM, pv, index=CONSOLE, value=0x1234)
    script.step("read back", hvm.GET_PARAM, pvh, index=CONSOLE)
