# SPDX-License-Identifier: MIT
"""mmuext_op: a list of what is to be done to page tables."""

from __future__ import annotations

from pyxc.abi import mmuext
from pyxc.abi.errno import XenErrno
from pyxc.sim.model import page_tables
from pyxc.sim.model.access import Refusal
from pyxc.sim.ops.call import Call, handles

_MOST_PINNED = mmuext.PIN_L4_TABLE.command
_PREEMPTED = 1 << 31
"""In the count: Xen's own sign that it is in the middle of a list."""


@handles(mmuext.PIN_L1_TABLE, mmuext.PIN_L2_TABLE, mmuext.PIN_L3_TABLE, mmuext.PIN_L4_TABLE)
def mmuext_op(call: Call) -> None:
    """In order, up to the first failure; reports the number of those done."""
    domain = call.xen.find(call["domid"])
    if domain is call.xen.current.domain:
        raise Refusal(XenErrno.ESRCH)  # a domain cannot name itself as a foreign domain
    call.xen.demand(domain.ssidref, "mmu", "mmuext_op")
    layout, done = call.xen.layout(mmuext.MMUEXT_STRUCT), 0
    if domain.hvm:
        raise Refusal(XenErrno.EINVAL)
    try:
        for done in range(call["count"] & ~_PREEMPTED):
            asked = layout.unpack(call.memory.read(call["ops"] + done * layout.size, layout.size))
            if asked["cmd"] > _MOST_PINNED:
                raise Refusal(XenErrno.ENOSYS)
            page_tables.pin(call.xen, domain, asked["arg1"], asked["cmd"] + 1)
    finally:
        if call["done"]:
            call.memory.write(call["done"], done.to_bytes(4, "little"))
