# SPDX-License-Identifier: MIT
"""What a domain is told of time, who may debug it or act for it, and what is triggered in it."""

from __future__ import annotations

from callscripts import ABSENT_DOMID, Script, Volatile
from pyxc.abi import domctl, domctl_tsc
from pyxc.abi.domctl import Trigger
from pyxc.abi.domctl_tsc import TscMode

VOLATILE = Volatile(fields=("elapsed_nsec", "gtsc_khz", "target"))
NOT_ON_DOM0 = (domctl.SETTIMEOFFSET,)


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    time(script, pv)
    triggers(script, pv, pvh)
    script.step("success", domctl.SETDEBUGGING, pv, enable=True)
    script.step("debugged", domctl.GETDOMAININFO, pv)
    script.step("off", domctl.SETDEBUGGING, pv, enable=False)
    script.step("not debugged", domctl.GETDOMAININFO, pv)
    targets(script, pv, pvh)


def time(script: Script, pv: int) -> None:
    script.step("success", domctl.SETTIMEOFFSET, pv, time_offset_seconds=-3600)
    script.step("far", domctl.SETTIMEOFFSET, pv, time_offset_seconds=2**31 - 1)
    script.step("new", domctl_tsc.GETTSCINFO, pv)
    script.step(
        "success", domctl_tsc.SETTSCINFO, pv, tsc_mode=int(TscMode.ALWAYS_EMULATE), gtsc_khz=1_000_000
    )
    reply = script.step("success", domctl_tsc.GETTSCINFO, pv)
    if reply is not None:
        script.outcomes["domctl.gettscinfo/emulated"] = {"gtsc_khz": reply.field("gtsc_khz")}
    for mode in (TscMode.NEVER_EMULATE, TscMode.PVRDTSCP, TscMode.DEFAULT, 9):
        script.step(f"mode {int(mode)}", domctl_tsc.SETTSCINFO, pv, tsc_mode=int(mode), incarnation=3)
        script.step(f"mode {int(mode)}", domctl_tsc.GETTSCINFO, pv)


def triggers(script: Script, pv: int, pvh: int) -> None:
    script.step("success", domctl.SENDTRIGGER, pv, trigger=int(Trigger.NMI), vcpu=1)
    for kind, domid in (("pv", pv), ("pvh", pvh)):
        for trigger in Trigger:
            script.step(f"{kind} {trigger.name.lower()}", domctl.SENDTRIGGER, domid, trigger=int(trigger))
    script.step("unknown", domctl.SENDTRIGGER, pv, trigger=99)
    script.step("unknown, missing vcpu", domctl.SENDTRIGGER, pv, trigger=99, vcpu=7)
    script.step("unknown domid", domctl.SENDTRIGGER, ABSENT_DOMID, trigger=0)
    script.without_mistakes(domctl.SENDTRIGGER)  # one of them would be an NMI for dom0


def targets(script: Script, pv: int, pvh: int) -> None:
    script.step("missing target", domctl.SET_TARGET, pv, target=ABSENT_DOMID)
    script.step("oneself", domctl.SET_TARGET, pv, target=pv)
    script.step("pv target", domctl.SET_TARGET, pvh, target=pv)
    script.step("success", domctl.SET_TARGET, pv, target=pvh)
    script.step("again", domctl.SET_TARGET, pv, target=pvh)
    script.step("again, pv target", domctl.SET_TARGET, pv, target=0)
    script.without_mistakes(domctl.SET_TARGET)
