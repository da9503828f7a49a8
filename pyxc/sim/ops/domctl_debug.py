# SPDX-License-Identifier: MIT
"""domctl: what a debugger does with vcpus."""

from __future__ import annotations

from pyxc.abi import domctl_debug
from pyxc.abi.domctl_debug import DebugOp
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Vcpu
from pyxc.sim.ops.call import Call, handles

_MOST_HOLDS = 255


@handles(domctl_debug.DEBUG_OP)
def debug_op(call: Call) -> None:
    """Only processors with a monitor trap flag do this."""
    vcpu = _vcpu(call)
    if vcpu is call.xen.current or not call.domain.hvm:
        raise Refusal(XenErrno.EINVAL)
    if call["op"] not in list(DebugOp):
        raise Refusal(XenErrno.ENOSYS)
    if not call.xen.monitor_trap:
        raise Refusal(XenErrno.EOPNOTSUPP)
    vcpu.stepped = call["op"] == DebugOp.SINGLE_STEP_ON


@handles(domctl_debug.GDBSX_PAUSEVCPU)
def gdbsx_pausevcpu(call: Call) -> None:
    vcpu = _vcpu_of_paused(call)
    if vcpu.held == _MOST_HOLDS:
        raise Refusal(XenErrno.EOVERFLOW)
    vcpu.held += 1
    call.xen.schedule()


@handles(domctl_debug.GDBSX_UNPAUSEVCPU)
def gdbsx_unpausevcpu(call: Call) -> None:
    vcpu = _vcpu_of_paused(call)
    if not vcpu.held:
        raise Refusal(XenErrno.EINVAL)
    vcpu.held -= 1
    call.xen.schedule()


@handles(domctl_debug.GDBSX_DOMSTATUS)
def gdbsx_domstatus(call: Call) -> None:
    """One vcpu that met a breakpoint; the next call names the next one."""
    _check_built(call)
    paused = call.domain.pauses > 0
    found = next((vcpu for vcpu in call.domain.live_vcpus if vcpu.event), None) if paused else None
    if found is None:
        call.answer(paused=paused, vcpu_id=domctl_debug.NO_VCPU)
        return
    call.answer(paused=paused, vcpu_id=found.index, vcpu_ev=found.event)
    found.event = 0


def _check_built(call: Call) -> None:
    if not call.xen.gdbsx:
        raise Refusal(XenErrno.ENOSYS)


def _vcpu(call: Call) -> Vcpu:
    vcpu = call.domain.vcpu(call["vcpu"])
    if vcpu is None:
        raise Refusal(XenErrno.EINVAL)
    return vcpu


def _vcpu_of_paused(call: Call) -> Vcpu:
    _check_built(call)
    if not call.domain.pauses:
        raise Refusal(XenErrno.EBUSY)
    return _vcpu(call)
