# SPDX-License-Identifier: MIT
"""Which hardware a domain may use."""

from __future__ import annotations

from callscripts import Script
from pyxc.abi import domctl_paging
from pyxc.abi import domctl_permissions as permissions

NOT_ON_DOM0 = (permissions.IOMEM_PERMISSION, permissions.IOPORT_PERMISSION, permissions.MEMORY_MAPPING)
VGA = 0xB8
"""A machine frame that is no memory: the screen of text mode."""


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    ports(script, pv)
    interrupts(script, pv)
    memory(script, pv)
    script.xen.call(domctl_paging.SHADOW_OP_SET_ALLOCATION, pvh, mb=2)
    mappings(script, pv, pvh)


def ports(script: Script, pv: int) -> None:
    cases = {
        "success": (0x2F8, 8), "none": (0x2F8, 0), "last": (0xFFFF, 1), "beyond": (0xFFFF, 2),
        "wrapped": (0xFFFFFFFF, 2), "Xen's timer": (0x40, 4), "partly Xen's": (0x30, 0x11),
    }  # fmt: skip
    for case, (first, count) in cases.items():
        for allow, prefix in ((True, ""), (False, "deny ")):
            script.step(
                prefix + case, permissions.IOPORT_PERMISSION, pv,
                first_port=first, nr_ports=count, allow_access=allow,
            )  # fmt: skip


def interrupts(script: Script, pv: int) -> None:
    """dom0 can hand on what is its own: its timer interrupt is Xen's."""
    for pirq in (9, 0, 2, 200, 255):
        for allow, prefix in ((True, ""), (False, "deny ")):
            case = "success" if (pirq, allow) == (9, True) else f"{prefix}{pirq}"
            script.step(case, permissions.IRQ_PERMISSION, pv, pirq=pirq, allow_access=allow)
    for gsi in (9, 0, 2, 200, 100_000):
        for flags, prefix in ((1, ""), (0, "deny ")):
            case = "success" if (gsi, flags) == (9, 1) else f"{prefix}{gsi}"
            script.step(case, permissions.GSI_PERMISSION, pv, gsi=gsi, flags=flags)
    script.step("unknown flags", permissions.GSI_PERMISSION, pv, gsi=9, flags=2)


def memory(script: Script, pv: int) -> None:
    cases = {
        "success": (VGA, 1), "none": (VGA, 0), "wrapped": (2**64 - 1, 2), "ioapic": (0xFEC00, 1),
        "around the lapic": (0xFEDFF, 3), "top": (2**64 - 1, 1),
    }  # fmt: skip
    for case, (first, count) in cases.items():
        for allow, prefix in ((True, ""), (False, "deny ")):
            script.step(
                prefix + case, permissions.IOMEM_PERMISSION, pv,
                first_mfn=first, nr_mfns=count, allow_access=allow,
            )  # fmt: skip


def mappings(script: Script, pv: int, pvh: int) -> None:
    gfn = 0xF0000

    def step(case: str, domid: int, mfn: int = VGA, count: int = 1, add: int = 1) -> None:
        script.step(
            case, permissions.MEMORY_MAPPING, domid,
            first_gfn=gfn, first_mfn=mfn, nr_mfns=count, add_mapping=add,
        )  # fmt: skip

    step("without permission", pvh)
    step("pv without permission", pv)
    for domid in (pv, pvh):
        script.step(
            "for mapping", permissions.IOMEM_PERMISSION, domid, first_mfn=VGA, nr_mfns=2, allow_access=True
        )
    step("pv", pv)
    step("wrapped", pvh, 2**64 - 1, 2)
    step("beyond the address space", pvh, 2**50)
    step("success", pvh)
    step("again", pvh)
    step("removed", pvh, add=0)
    step("removed again", pvh, add=0)
