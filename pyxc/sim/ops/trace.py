# SPDX-License-Identifier: MIT
"""sysctl tbuf_op: the trace buffers, which really have records of changing runstates."""

from __future__ import annotations

from pyxc._core import PAGE_SIZE
from pyxc.abi import trace
from pyxc.abi.errno import XenErrno
from pyxc.abi.trace import TbufOp
from pyxc.sim.model.access import Refusal
from pyxc.sim.ops.bitmap import read_bitmap
from pyxc.sim.ops.call import Call, handles


@handles(
    trace.TBUF_OP_GET_INFO,
    trace.TBUF_OP_SET_CPU_MASK,
    trace.TBUF_OP_SET_EVT_MASK,
    trace.TBUF_OP_SET_SIZE,
    trace.TBUF_OP_ENABLE,
    trace.TBUF_OP_DISABLE,
)
def tbuf_op(call: Call) -> None:
    """Xen copies the structure back whatever was asked, unless it refused."""
    buffers, op = call.xen.trace_buffers, call["op"]
    if op == TbufOp.GET_INFO:
        frame, size = buffers.info.start, len(buffers.info) * PAGE_SIZE
        call.answer(evt_mask=buffers.events, buffer_mfn=frame if size else 0, size=size)
        return
    if op == TbufOp.SET_CPU_MASK:
        buffers.cpus = read_bitmap(call, "cpu_mask", call.xen.possible_pcpus)
    elif op == TbufOp.SET_EVT_MASK:
        buffers.events = call["evt_mask"]
    elif op == TbufOp.SET_SIZE:
        buffers.allocate(call["size"])
    elif op == TbufOp.ENABLE:
        if not buffers.pages:
            raise Refusal(XenErrno.EINVAL)
        buffers.enabled = True
    elif op == TbufOp.DISABLE:
        buffers.disable()
    else:
        raise Refusal(XenErrno.EINVAL)
    call.answer()
