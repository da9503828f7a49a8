# SPDX-License-Identifier: MIT
"""Memory that is promised: claims of pages, and targets of populate-on-demand."""

from __future__ import annotations

from callscripts import MEMORY_KB, Script
from pyxc.abi import domctl, domctl_paging, memory

NOT_ON_DOM0 = (memory.CLAIM_PAGES, memory.SET_POD_TARGET)


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    claims(script, pv)
    script.xen.call(domctl_paging.SHADOW_OP_SET_ALLOCATION, pvh, mb=2)
    targets(script, pv, pvh)


def claims(script: Script, pv: int) -> None:
    def outstanding(case: str) -> None:
        script.outcomes[f"claims/{case}"] = {"pages": script.xen.domains[pv].info().outstanding_pages}

    script.step("success", memory.CLAIM_PAGES, pv, nr_extents=256)
    outstanding("claimed")
    script.step("again", memory.CLAIM_PAGES, pv, nr_extents=128)
    outstanding("again")
    script.step("more than there is", memory.CLAIM_PAGES, pv, nr_extents=1 << 40)
    script.step("more than it may own", memory.CLAIM_PAGES, pv, nr_extents=MEMORY_KB // 4 + 1)
    script.step("none", memory.CLAIM_PAGES, pv, nr_extents=0)
    outstanding("none")
    script.step("with a list", memory.CLAIM_PAGES, pv, nr_extents=1, extent_start=8)
    script.step("of an order", memory.CLAIM_PAGES, pv, nr_extents=1, extent_order=1)
    script.step("for a while", memory.CLAIM_PAGES, pv, nr_extents=100)
    pfns = b"".join(pfn.to_bytes(8, "little") for pfn in range(30))
    script.xen.call(memory.POPULATE_PHYSMAP, pv, extent_start=pfns, nr_extents=30)
    outstanding("after 30 pages")
    script.step("less than it owns", memory.CLAIM_PAGES, pv, nr_extents=10)
    script.step("cancelled", memory.CLAIM_PAGES, pv, nr_extents=0)
    outstanding("cancelled")


def targets(script: Script, pv: int, pvh: int) -> None:
    script.step("success", memory.SET_POD_TARGET, pvh, target_pages=512)
    script.step("success", memory.GET_POD_TARGET, pvh)
    script.step("pv", memory.SET_POD_TARGET, pv, target_pages=512)
    script.step("pv", memory.GET_POD_TARGET, pv)
    on_demand = int(memory.MemFlag.POPULATE_ON_DEMAND)
    gfns = b"".join(gfn.to_bytes(8, "little") for gfn in range(512, 1536, 512))
    script.step(
        "on demand", memory.POPULATE_PHYSMAP, pvh,
        extent_start=gfns, nr_extents=2, extent_order=9, mem_flags=on_demand,
    )  # fmt: skip
    script.step("entries", memory.GET_POD_TARGET, pvh)
    script.step("half", memory.SET_POD_TARGET, pvh, target_pages=512)
    script.step("half", memory.GET_POD_TARGET, pvh)
    script.step("less", memory.SET_POD_TARGET, pvh, target_pages=256)
    script.step("less", memory.GET_POD_TARGET, pvh)
    script.step("all", memory.SET_POD_TARGET, pvh, target_pages=1024)
    script.step("all", memory.GET_POD_TARGET, pvh)
    script.step("beyond max_mem", memory.SET_POD_TARGET, pvh, target_pages=1 << 20)
    script.step("on demand", domctl.GETDOMAININFO, pvh)
    script.without_mistakes(memory.POPULATE_PHYSMAP)
