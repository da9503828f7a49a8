# SPDX-License-Identifier: MIT
"""Registers of vcpus."""

from __future__ import annotations

from callscripts import ABSENT_DOMID, ABSENT_VCPU, NOWHERE, WRONG_VERSION, Script, Volatile
from pyxc import VcpuContext
from pyxc.abi import domctl, memory

VOLATILE = Volatile(fields=("ctxt",))
SIZE = 5168


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    script.step("uninitialised", domctl.GETVCPUCONTEXT, pv, vcpu=0, ctxt=SIZE)
    context = zero(script).replace(rip=0x1000, rax=7, cs=0xE033, ss=0xE02B, rsp=0x2000)
    script.step("without page tables", domctl.SETVCPUCONTEXT, pv, vcpu=0, ctxt=context.encode())
    script.step("wrong interface version", domctl.GETVCPUCONTEXT, pv, vcpu=0, interface_version=WRONG_VERSION)
    script.step("unknown domid", domctl.SETVCPUCONTEXT, ABSENT_DOMID, vcpu=0, ctxt=SIZE)
    script.step("missing vcpu", domctl.SETVCPUCONTEXT, pv, vcpu=ABSENT_VCPU, ctxt=SIZE)
    script.step("dom0 itself", domctl.SETVCPUCONTEXT, 0, vcpu=1, ctxt=SIZE)
    script.step("bad ctxt", domctl.SETVCPUCONTEXT, pv, vcpu=0, ctxt=NOWHERE)
    of_pv(script, pv)
    of_pvh(script, pvh)


def zero(script: Script) -> VcpuContext:
    return VcpuContext.zero(64, script.xen.interface)


def of_pv(script: Script, pv: int) -> None:
    """With an empty page table a vcpu can have registers; it stays offline."""
    domain = script.xen.domains[pv]
    taken = script.xen.call(memory.POPULATE_PHYSMAP, pv, extent_start=bytes(8), nr_extents=1)
    root = int.from_bytes(taken.buffers["extent_start"], "little")
    domain.memory.write(root, bytes(4096))
    context = zero(script).replace(
        flags=4,
        rip=0x1000,
        rax=7,
        rsp=0x2000,
        r15=2**64 - 1,
        cs=0xE033,
        ss=0xE02B,
        cr3=root << 12,
        fs_base=0x5000,
    )
    script.step("success", domctl.SETVCPUCONTEXT, pv, vcpu=0, ctxt=context.encode())
    script.step("success", domctl.GETVCPUCONTEXT, pv, vcpu=0, ctxt=SIZE)
    shown = domain.vcpu(0).context()
    registers = {name: value for name, value in shown.items() if value and name != "cr3"}
    script.outcomes["domctl.getvcpucontext/registers"] = {"root": shown["cr3"] == root << 12, **registers}
    script.step("another root", domctl.SETVCPUCONTEXT, pv, vcpu=0, ctxt=context.replace(cr3=0).encode())


def of_pvh(script: Script, pvh: int) -> None:
    """Those of a translated guest can be set like this, but not shown before its hvm context is loaded."""
    context = zero(script).replace(rip=0x1000, rax=7, rsp=0x2000)
    script.step("pvh", domctl.SETVCPUCONTEXT, pvh, vcpu=0, ctxt=context.encode())
    script.step("pvh", domctl.GETVCPUCONTEXT, pvh, vcpu=0, ctxt=SIZE)
