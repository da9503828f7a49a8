# SPDX-License-Identifier: MIT
"""Memory for the page tables that Xen keeps for a guest."""

from __future__ import annotations

from callscripts import Script
from pyxc.abi import domctl_paging


def run(script: Script) -> None:
    pvh = script.pvh()
    script.step("success", domctl_paging.SET_PAGING_MEMPOOL_SIZE, pvh, size=0x110000)
    script.step("odd size", domctl_paging.SET_PAGING_MEMPOOL_SIZE, pvh, size=0x110001)
    script.step("success", domctl_paging.GET_PAGING_MEMPOOL_SIZE, pvh)
    script.step("success", domctl_paging.SHADOW_OP_SET_ALLOCATION, pvh, mb=2)
    script.step("success", domctl_paging.SHADOW_OP_GET_ALLOCATION, pvh)
