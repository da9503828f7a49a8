# SPDX-License-Identifier: MIT
"""The NUMA nodes that a domain sees."""

from __future__ import annotations

import struct
from typing import Any

from callscripts import Script
from pyxc.abi import domctl_vnuma, memory

NOT_ON_DOM0 = (domctl_vnuma.SETVNUMAINFO,)


def words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def ranges(*nodes: tuple[int, int, int]) -> bytes:
    return b"".join(struct.pack("<QQII", start, end, 0, node) for start, end, node in nodes)


GOOD: dict[str, Any] = {
    "nr_vnodes": 2,
    "nr_vmemranges": 2,
    "nr_vcpus": 2,
    "vdistance": words(10, 20, 20, 10),
    "vcpu_to_vnode": words(0, 1),
    "vnode_to_pnode": words(0, 0),
    "vmemrange": ranges((0, 4 << 20, 0), (4 << 20, 8 << 20, 1)),
}


def run(script: Script) -> None:
    pv = script.pv()
    room = {"nr_vnodes": 4, "nr_vcpus": 4, "nr_vmemranges": 4,
            "vdistance.h": 64, "vcpu_to_vnode.h": 16, "vmemrange.h": 96}  # fmt: skip
    script.step("none", memory.GET_VNUMAINFO, pv, **room)
    script.step("success", domctl_vnuma.SETVNUMAINFO, pv, **GOOD)
    script.step("success", memory.GET_VNUMAINFO, pv, **room)
    script.step("too little room", memory.GET_VNUMAINFO, pv, **{**room, "nr_vnodes": 1})
    mistakes: dict[str, dict[str, Any]] = {
        "no nodes": {"nr_vnodes": 0},
        "no ranges": {"nr_vmemranges": 0},
        "other number of vcpus": {"nr_vcpus": 3},
        "vcpu on a missing node": {"vcpu_to_vnode": words(0, 7)},
        "missing physical node": {"vnode_to_pnode": words(0, 77)},
        "range on a missing node": {"vmemrange": ranges((0, 4 << 20, 0), (4 << 20, 8 << 20, 9))},
        "ranges that overlap": {"vmemrange": ranges((0, 8 << 20, 0), (4 << 20, 8 << 20, 1))},
        "range backwards": {"vmemrange": ranges((4 << 20, 0, 0), (4 << 20, 8 << 20, 1))},
        "range with flags": {"vmemrange": struct.pack("<QQII", 0, 4 << 20, 1, 0) * 2},
        "far too many": {"nr_vnodes": 1 << 20},
    }
    for case, mistake in mistakes.items():
        script.step(case, domctl_vnuma.SETVNUMAINFO, pv, **{**GOOD, **mistake})
