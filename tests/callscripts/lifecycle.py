# SPDX-License-Identifier: MIT
"""How domains stop, go on and end."""

from __future__ import annotations

from callscripts import Script
from pyxc.abi import domctl, sched

NOT_ON_DOM0 = (sched.REMOTE_SHUTDOWN,)


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    script.step("success", domctl.PAUSEDOMAIN, pv)
    script.step("success", domctl.UNPAUSEDOMAIN, pv)
    script.step("last pause", domctl.UNPAUSEDOMAIN, pvh)
    script.step("not paused", domctl.UNPAUSEDOMAIN, pvh)
    script.step("not shut down", domctl.RESUMEDOMAIN, pvh)
    script.step("success", sched.REMOTE_SHUTDOWN, pvh, reason=2)
    info = script.xen.domains[pvh].info()
    script.outcomes["domctl.getdomaininfo/shut down"] = {
        "flags": int(info.flags),
        "reason": info.shutdown_reason,
    }
    script.step("success", domctl.RESUMEDOMAIN, pvh)
    script.step("success", domctl.DESTROYDOMAIN, script.pv())
    script.domains.pop()
