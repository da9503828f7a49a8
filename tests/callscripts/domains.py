# SPDX-License-Identifier: MIT
"""What a domain is: its state, limits, handle, and the width of its registers."""

from __future__ import annotations

from callscripts import Script
from pyxc.abi import domctl

NOT_ON_DOM0 = (domctl.MAX_MEM, domctl.SETDOMAINHANDLE)


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    script.step("success", domctl.GETDOMAININFO, pv)
    script.step("pvh", domctl.GETDOMAININFO, pvh)
    script.step("success", domctl.MAX_VCPUS, pv, max=2)
    script.step("other number", domctl.MAX_VCPUS, pv, max=3)
    script.step("success", domctl.MAX_MEM, pv, max_memkb=8192)
    script.step("success", domctl.GET_ADDRESS_SIZE, pv)
    script.step("pvh", domctl.GET_ADDRESS_SIZE, pvh)
    script.step("success", domctl.SET_ADDRESS_SIZE, pv, size=64)
    script.step("odd size", domctl.SET_ADDRESS_SIZE, pv, size=48)
    script.step("success", domctl.SETDOMAINHANDLE, pv, handle=bytes(range(16)))
    script.step("new handle", domctl.GETDOMAININFO, pv)
    script.xen.call(domctl.SETDOMAINHANDLE, pv, handle=script.domains[0].uuid.bytes)
