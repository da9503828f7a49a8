# SPDX-License-Identifier: MIT
"""Grant tables."""

from __future__ import annotations

from callscripts import Script
from pyxc.abi import grant_table


def run(script: Script) -> None:
    pv = script.pv()
    script.step("success", grant_table.QUERY_SIZE, pv)
    script.step("success", grant_table.GET_VERSION, pv)
