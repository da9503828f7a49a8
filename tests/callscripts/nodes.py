# SPDX-License-Identifier: MIT
"""NUMA nodes: from which a domain gets memory, and what of it is free. The host has one."""

from __future__ import annotations

from callscripts import Script
from pyxc.abi import domctl, sysctl


def nodemap(nodes: int, size: int = 8) -> dict[str, bytes | int]:
    return {"nodemap.bitmap": nodes.to_bytes(size, "little"), "nodemap.nr_bits": 8 * size}


def run(script: Script) -> None:
    pv = script.pv()
    get = {"nodemap.bitmap": 8, "nodemap.nr_bits": 64}
    script.step("success", domctl.GETNODEAFFINITY, pv, **get)
    for case, nodes in (
        ("success", 0b1),
        ("no node", 0),
        ("absent node", 0b10),
        ("an absent node", 0b11),
        ("all nodes", 2**64 - 1),
    ):
        script.step(case, domctl.SETNODEAFFINITY, pv, **nodemap(nodes))
        script.step(f"after {case}", domctl.GETNODEAFFINITY, pv, **get)
    script.step("few bits", domctl.SETNODEAFFINITY, pv, **{**nodemap(2**64 - 1), "nodemap.nr_bits": 4})
    script.step("few bits", domctl.GETNODEAFFINITY, pv, **{**get, "nodemap.nr_bits": 4})
    script.step("many bits", domctl.GETNODEAFFINITY, pv, **{"nodemap.bitmap": 16, "nodemap.nr_bits": 128})
    for case, node, least, most in (
        ("absent node", 1, 0, 0),
        ("node beyond", 64, 0, 0),
        ("below a page", -1, 0, 12),
        ("beyond all", -1, 40, 0),
        ("below nothing", -1, 33, 32),
    ):
        script.step(case, sysctl.AVAILHEAP, node=node, min_bitwidth=least, max_bitwidth=most)
