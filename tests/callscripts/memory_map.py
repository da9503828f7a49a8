# SPDX-License-Identifier: MIT
"""What a guest is told of its address space, and what is put into it that is not its own memory."""

from __future__ import annotations

import struct

from callscripts import Script
from pyxc.abi import domctl_paging, memory

NOT_ON_DOM0 = (memory.SET_MEMORY_MAP, memory.ADD_TO_PHYSMAP, memory.REMOVE_FROM_PHYSMAP)
GFN = 0xF0000


def entry(address: int, size: int, kind: int) -> bytes:
    return struct.pack("<QQI", address, size, kind)


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    maps(script, pv, pvh)
    script.xen.call(domctl_paging.SHADOW_OP_SET_ALLOCATION, pvh, mb=2)
    physmap(script, pv, pvh)


def maps(script: Script, pv: int, pvh: int) -> None:
    ram, reserved = entry(0, 8 << 20, 1), entry(0xFEFF8000, 0x8000, 2)

    def step(case: str, domid: int, entries: bytes, count: int) -> None:
        script.step(
            case, memory.SET_MEMORY_MAP, domid, **{"map.buffer": entries or 8, "map.nr_entries": count}
        )

    step("success", pv, ram, 1)
    step("pvh", pvh, ram + reserved, 2)
    step("empty", pvh, b"", 0)
    step("128 entries", pvh, entry(0, 4096, 1) * 128, 128)
    step("129 entries", pvh, entry(0, 4096, 1) * 129, 129)
    step("1024 entries", pvh, entry(0, 4096, 1) * 1024, 1024)
    step("1025 entries", pvh, entry(0, 4096, 1) * 1025, 1025)
    step("nonsense", pvh, entry(2**64 - 1, 2**64 - 1, 99), 1)
    step("pv, two entries", pv, ram + reserved, 2)


def physmap(script: Script, pv: int, pvh: int) -> None:
    space = {kind.name.lower(): int(kind) for kind in memory.MapSpace}
    gfns = (16).to_bytes(8, "little")
    script.xen.call(memory.POPULATE_PHYSMAP, pvh, extent_start=gfns, nr_extents=1)

    def add(case: str, domid: int, kind: int, index: int = 0, gfn: int = GFN) -> None:
        script.step(case, memory.ADD_TO_PHYSMAP, domid, space=kind, idx=index, gpfn=gfn)

    def remove(case: str, domid: int, gfn: int) -> None:
        script.step(case, memory.REMOVE_FROM_PHYSMAP, domid, gpfn=gfn)

    add("success", pvh, space["shared_info"])
    script.outcomes["domctl.getdomaininfo/shared_info"] = {
        "gfn": script.xen.domains[pvh].info().shared_info_frame
    }
    add("page of shared_info", pvh, space["shared_info"], index=1)
    add("grant table", pvh, space["grant_table"], gfn=GFN + 1)
    add("far in the grant table", pvh, space["grant_table"], index=1 << 20, gfn=GFN + 2)
    add("moved", pvh, space["gmfn"], index=16, gfn=20)
    add("moved away already", pvh, space["gmfn"], index=16, gfn=21)
    add("unknown space", pvh, 99)
    add("foreign", pvh, space["gmfn_foreign"])
    add("pv", pv, space["shared_info"])
    add("pv grant table", pv, space["grant_table"])
    remove("success", pvh, 20)
    remove("again", pvh, 20)
    remove("never there", pvh, 99)
    remove("shared_info", pvh, GFN)
    remove("pv", pv, 5)
    script.step("in the end", memory.CURRENT_RESERVATION, pvh)
    script.without_mistakes(memory.CURRENT_RESERVATION)
