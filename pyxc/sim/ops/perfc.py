# SPDX-License-Identifier: MIT
"""sysctl perfc_op: a few of Xen's performance counters, which really count."""

from __future__ import annotations

from pyxc.abi import perfc
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.ops.call import Call, handles

_WORD = 4


def _read(call: Call) -> dict[str, list[int]]:
    """All counters, each with a value of every cpu, or of every element of an array."""
    xen = call.xen
    idle = [0] * (xen.pcpus - 1)
    return {
        "exceptions": [0] * 32,
        "hypercalls": xen.counters.hypercalls,
        "calls from multicall": [xen.counters.from_multicall, *idle],
    }


def _copy(call: Call) -> None:
    """Descriptions, and values if the buffer has space for descriptions; always the numbers of both."""
    found = _read(call)
    values = [value & 0xFFFFFFFF for counter in found.values() for value in counter]
    if call["desc"]:
        layout = call.xen.layout(perfc.DESC_STRUCT)
        rows = [
            layout.pack({"name": name.encode().ljust(80, b"\0"), "nr_vals": len(counter)})
            for name, counter in found.items()
        ]
        call.memory.write(call["desc"], b"".join(rows))
        order = call.xen.interface.byteorder
        call.memory.write(call["val"], b"".join(value.to_bytes(_WORD, order) for value in values))
    call.answer(nr_counters=len(found), nr_vals=len(values))


@handles(perfc.PERFC_OP_QUERY, perfc.PERFC_OP_RESET)
def perfc_op(call: Call) -> None:
    if not call.xen.profile.xsm:
        raise Refusal(XenErrno.ENOSYS)
    if call["op"] not in (perfc.PerfcOp.QUERY, perfc.PerfcOp.RESET):
        raise Refusal(XenErrno.EINVAL)
    try:
        _copy(call)
    finally:
        if call["op"] == perfc.PerfcOp.RESET:
            call.xen.counters.reset()
