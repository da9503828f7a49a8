# SPDX-License-Identifier: MIT
"""Which pages a domain writes, and the modes of paging that tell it."""

from __future__ import annotations

from callscripts import Script, Volatile
from pyxc.abi import domctl_paging as paging
from pyxc.abi import memory

VOLATILE = Volatile(fields=("stats.fault_count",))
PAGES = 0x1000


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    script.xen.call(paging.SHADOW_OP_SET_ALLOCATION, pvh, mb=2)
    for domid, kind in ((pvh, "pvh"), (pv, "pv")):
        populate(script, domid, range(16, 32))
        before(script, domid, kind)
        enabled(script, domid, kind)
    shadows(script, pv, pvh)
    # dom0 and bad handles are tried with what was done to the domain that this can be done to.
    script.step("to try mistakes", paging.SHADOW_OP_ENABLE_LOGDIRTY, pvh)
    script.without_mistakes(paging.SHADOW_OP_ENABLE, paging.SHADOW_OP_ENABLE_TEST)


def populate(script: Script, domid: int, gfns: range) -> None:
    extents = b"".join(gfn.to_bytes(8, "little") for gfn in gfns)
    script.xen.call(memory.POPULATE_PHYSMAP, domid, extent_start=extents, nr_extents=len(gfns))


def before(script: Script, domid: int, kind: str) -> None:
    script.step(f"{kind}, never on", paging.SHADOW_OP_OFF, domid)
    script.step(f"{kind}, never on", paging.SHADOW_OP_PEEK, domid, pages=64, dirty_bitmap=8)
    script.step(f"{kind}, never on", paging.SHADOW_OP_CLEAN, domid, pages=64, dirty_bitmap=8)


def enabled(script: Script, domid: int, kind: str) -> None:
    success = "success" if kind == "pvh" else kind
    script.step(success, paging.SHADOW_OP_ENABLE_LOGDIRTY, domid)
    script.step(f"{kind}, again", paging.SHADOW_OP_ENABLE_LOGDIRTY, domid)
    script.step(f"{kind}, new", paging.SHADOW_OP_PEEK, domid, pages=PAGES, dirty_bitmap=PAGES // 8)
    populate(script, domid, range(40, 44))
    script.step(f"{kind}, populated", paging.SHADOW_OP_PEEK, domid, pages=PAGES, dirty_bitmap=PAGES // 8)
    if kind == "pvh":
        script.xen.domains[domid].memory.write(17, b"written by dom0")
    script.step(f"{kind}, written", paging.SHADOW_OP_PEEK, domid, pages=PAGES, dirty_bitmap=PAGES // 8)
    script.step(f"{kind}, few", paging.SHADOW_OP_PEEK, domid, pages=42, dirty_bitmap=6)
    script.step(f"{kind}, no bitmap", paging.SHADOW_OP_PEEK, domid, pages=PAGES)
    script.step(f"{kind}, no pages", paging.SHADOW_OP_PEEK, domid, dirty_bitmap=8)
    script.step(success, paging.SHADOW_OP_PEEK, domid, pages=PAGES, dirty_bitmap=PAGES // 8)
    script.step(success, paging.SHADOW_OP_CLEAN, domid, pages=PAGES, dirty_bitmap=PAGES // 8)
    script.step(f"{kind}, again", paging.SHADOW_OP_CLEAN, domid, pages=PAGES, dirty_bitmap=PAGES // 8)
    script.step(f"{kind}, final", paging.SHADOW_OP_CLEAN, domid, mode=1, pages=64, dirty_bitmap=8)
    script.step(f"{kind}, odd mode", paging.SHADOW_OP_CLEAN, domid, mode=2, pages=64, dirty_bitmap=8)
    script.step(success, paging.SHADOW_OP_OFF, domid)
    script.step(f"{kind}, again", paging.SHADOW_OP_OFF, domid)


def shadows(script: Script, pv: int, pvh: int) -> None:
    """The other modes, which only a PV domain can have."""
    for kind, domid in (("pv", pv), ("pvh", pvh)):
        success = "success" if kind == "pv" else kind
        script.step(success, paging.SHADOW_OP_ENABLE, domid)
        script.step(f"{kind}, shadows", paging.SHADOW_OP_OFF, domid)
        for mode in (2, 4, 8, 16):
            script.step(f"{kind}, mode {mode}", paging.SHADOW_OP_ENABLE, domid, mode=mode)
            script.step(f"{kind}, mode {mode}", paging.SHADOW_OP_OFF, domid)
        script.step(success, paging.SHADOW_OP_ENABLE_TEST, domid)
        script.step(f"{kind}, again", paging.SHADOW_OP_ENABLE_TEST, domid)
        script.step(f"{kind}, allocation", paging.SHADOW_OP_GET_ALLOCATION, domid)
        script.step(f"{kind}, test", paging.SHADOW_OP_OFF, domid)
