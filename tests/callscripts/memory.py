# SPDX-License-Identifier: MIT
"""A guest's memory: how much it has, of which types its frames are, and mappings of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from callscripts import Script, Volatile
from pyxc.abi import domctl, domctl_paging, memory

VOLATILE = Volatile(
    fields=("extent_start", "array"),
    results_of_dom0=(memory.CURRENT_RESERVATION, memory.MAXIMUM_GPFN),
)
NOT_ON_DOM0 = (memory.DECREASE_RESERVATION,)


def run(script: Script) -> None:
    of_pv(script, script.pv())
    of_pvh(script, script.pvh())


def of_pv(script: Script, pv: int) -> None:
    pfns = b"".join(pfn.to_bytes(8, "little") for pfn in range(8))
    script.step("success", memory.POPULATE_PHYSMAP, pv, extent_start=pfns, nr_extents=8)
    frames = script.xen.call(memory.POPULATE_PHYSMAP, pv, extent_start=pfns, nr_extents=8).buffers[
        "extent_start"
    ]
    script.step("over the limit", memory.POPULATE_PHYSMAP, pv, extent_start=8 * 4096, nr_extents=4096)
    script.step("success", memory.INCREASE_RESERVATION, pv, extent_start=16, nr_extents=2)
    script.step("success", memory.DECREASE_RESERVATION, pv, extent_start=frames[:16], nr_extents=2)
    script.step("gone already", memory.DECREASE_RESERVATION, pv, extent_start=frames[:16], nr_extents=2)
    script.step("success", memory.CURRENT_RESERVATION, pv)
    script.step("success", memory.MAXIMUM_RESERVATION, pv)
    script.step("success", memory.MAXIMUM_GPFN, pv)
    script.step("success", domctl.GETPAGEFRAMEINFO3, pv, num=2, array=frames[16:32])
    kinds = script.xen.call(domctl.GETPAGEFRAMEINFO3, pv, num=2, array=frames[16:32]).buffers["array"]
    script.outcomes["domctl.getpageframeinfo3/types"] = {"array": kinds.hex()}
    script.step("oversized list", domctl.GETPAGEFRAMEINFO3, pv, num=1025, array=8 * 1025)
    script.step("memory is there", domctl.SET_ADDRESS_SIZE, pv, size=32)
    map_both_ways(script, pv, int.from_bytes(frames[16:24], "little"))


def map_both_ways(script: Script, pv: int, frame: int) -> None:
    """A page of the guest: written, read back, and unreachable for dom0 under its own name."""
    domain = script.xen.domains[pv]
    domain.memory.write(frame, b"pyxc was here", 16)
    script.outcomes["map/read back"] = {"bytes": domain.memory.read(frame, 16, 13).hex()}
    script.outcomes["map/unknown frame"] = failure(lambda: domain.memory.read(2**40 - 5))
    shared = script.xen.domains[0].info().shared_info_frame
    script.outcomes["map/dom0 as DOMID_SELF"] = {"size": len(script.xen.domains[0].memory.read(shared))}
    if script.xen.caller.supports(memory.ACQUIRE_RESOURCE):
        map_grant_table(script, pv)


def map_grant_table(script: Script, pv: int) -> None:
    size = script.xen.link.resource_size(pv, int(memory.Resource.GRANT_TABLE), 0)
    script.outcomes["map/grant table"] = {"frames": size}
    with script.xen.link.map_resource(pv, int(memory.Resource.GRANT_TABLE), 0, 0, 1) as table:
        script.outcomes["map/grant table page"] = {"bytes": bytes(table).rstrip(b"\0").hex()}


def failure(call: Callable[[], object]) -> dict[str, Any]:
    try:
        call()
    except OSError as error:
        return {"errno": error.errno, "kind": type(error).__name__}
    return {"errno": 0}


def of_pvh(script: Script, pvh: int) -> None:
    script.xen.call(domctl_paging.SHADOW_OP_SET_ALLOCATION, pvh, mb=2)
    gfns = b"".join(gfn.to_bytes(8, "little") for gfn in (16, 17, 0xFEFFF))
    script.step("pvh", memory.POPULATE_PHYSMAP, pvh, extent_start=gfns, nr_extents=3)
    script.step("pvh", memory.MAXIMUM_GPFN, pvh)
    script.step("success", memory.GET_POD_TARGET, pvh)
    kinds = script.xen.call(
        domctl.GETPAGEFRAMEINFO3, pvh, num=4, array=gfns + (99).to_bytes(8, "little")
    ).buffers["array"]
    script.outcomes["domctl.getpageframeinfo3/pvh types"] = {"array": kinds.hex()}
