# SPDX-License-Identifier: MIT
"""Device model operations, as far as a domain without devices takes them: others have brought down a Xen."""

from __future__ import annotations

from callscripts import ABSENT_DOMID, Script
from pyxc.abi import dm_op
from pyxc.abi.sched import ShutdownReason

UNKNOWN_COMMAND = (99).to_bytes(4, "little") + bytes(4)


def run(script: Script) -> None:
    pvh, pv = script.pvh(), script.pv()
    script.step("success", dm_op.NR_VCPUS, pvh)
    script.step("pv", dm_op.NR_VCPUS, pv)
    buffers = {
        "no buffer": [],
        "empty structure": [b""],
        "half an envelope": [bytes(4)],
        "unknown command": [UNKNOWN_COMMAND],
        "too many buffers": [bytes(32)] * 3,
        "more than the kernel takes": [bytes(32)] * 17,
        "a buffer too large": [bytes(5000)],
    }
    for case, given in buffers.items():
        script.outcomes[f"dm_op/{case}"] = {"result": script.xen.link.dm_op(pvh, given)[0]}
    script.step("success", dm_op.REMOTE_SHUTDOWN, pvh, reason=int(ShutdownReason.CRASH))
    script.outcomes["dm_op.remote_shutdown/after"] = {
        "reason": script.xen.domains[pvh].info().shutdown_reason,
        "absent": script.xen.link.dm_op(ABSENT_DOMID, [UNKNOWN_COMMAND])[0],
    }
