# SPDX-License-Identifier: MIT
"""Performance counters. A hypervisor that was built without them refuses."""

from __future__ import annotations

from callscripts import Script, Volatile
from pyxc.abi import perfc

VOLATILE = Volatile(fields=("nr_counters", "nr_vals", "desc", "val"))


def run(script: Script) -> None:
    script.step("sizes", perfc.PERFC_OP_QUERY)
    script.step("success", perfc.PERFC_OP_QUERY, desc=1 << 16, val=1 << 16)
    script.step("values alone", perfc.PERFC_OP_QUERY, val=1 << 16)
    script.step("descriptions alone", perfc.PERFC_OP_QUERY, desc=1 << 16)
    script.step("success", perfc.PERFC_OP_RESET)
