# SPDX-License-Identifier: MIT
"""domctl: what a vcpu has besides its registers, as it is saved and restored."""

from __future__ import annotations

import struct
from typing import Any

from pyxc.abi import domctl_vcpu
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Vcpu
from pyxc.sim.ops.call import Call, handles

_MSR_BYTES = 16
_MSRS = 7
"""How many MSRs a vcpu may have."""
_XSTATE_MASK = 0x21F
_XSTATE_HEAD_BYTES, _XSTATE_MOST_BYTES = 16, 0xA98
_VMCE_STOP = 32
"""Bytes of ext_vcpucontext before the banks of machine checks."""


def _vcpu(call: Call, missing: XenErrno) -> Vcpu:
    vcpu = call.domain.vcpu(call["vcpu"])
    if vcpu is None:
        raise Refusal(missing)
    return vcpu


@handles(domctl_vcpu.GET_EXT_VCPUCONTEXT)
def get_ext_vcpucontext(call: Call) -> None:
    vcpu = _vcpu(call, XenErrno.ESRCH)
    call.not_on_self()
    size = domctl_vcpu.EXT_VCPUCONTEXT_STRUCT.at(call.xen.interface).size
    call.answer(**{**_blank(call), **vcpu.extended, "vcpu": vcpu.index, "size": size})


@handles(domctl_vcpu.SET_EXT_VCPUCONTEXT)
def set_ext_vcpucontext(call: Call) -> None:
    vcpu = _vcpu(call, XenErrno.ESRCH)
    call.not_on_self()
    callbacks = [name for name in _blank(call) if name.startswith("sys")]
    foreign = vcpu.domain.hvm and any(call[name] for name in callbacks)
    if call["size"] < _VMCE_STOP or foreign:
        raise Refusal(XenErrno.EINVAL)
    vcpu.extended = {name: call[name] for name in _blank(call)}


def _blank(call: Call) -> dict[str, Any]:
    names = domctl_vcpu.EXT_VCPUCONTEXT_STRUCT.at(call.xen.interface).names
    return dict.fromkeys((name for name in names if name not in ("vcpu", "size")), 0)


@handles(domctl_vcpu.GETVCPUEXTSTATE)
def getvcpuextstate(call: Call) -> None:
    """Without a buffer the most that it may be; else what there is."""
    vcpu = _vcpu(call, XenErrno.ESRCH)
    call.not_on_self()
    if not call["buffer"] or not (call["size"] or call["xfeature_mask"]):
        call.answer(xfeature_mask=_XSTATE_MASK, size=_XSTATE_MOST_BYTES)
        return
    if call["size"] < len(vcpu.xstate):
        call.answer(size=len(vcpu.xstate))
        raise Refusal(XenErrno.EINVAL)
    call.memory.write(call["buffer"], vcpu.xstate)
    call.answer(size=len(vcpu.xstate))


@handles(domctl_vcpu.SETVCPUEXTSTATE)
def setvcpuextstate(call: Call) -> None:
    vcpu = _vcpu(call, XenErrno.ESRCH)
    call.not_on_self()
    if not _XSTATE_HEAD_BYTES <= call["size"] <= _XSTATE_MOST_BYTES:
        raise Refusal(XenErrno.EINVAL)
    data = call.memory.read(call["buffer"], call["size"])
    now, ever = struct.unpack_from("<QQ", data)
    if (now | ever) & ~_XSTATE_MASK or now & ~ever:
        raise Refusal(XenErrno.EINVAL)
    vcpu.xstate = data


@handles(domctl_vcpu.GET_VCPU_MSRS)
def get_vcpu_msrs(call: Call) -> None:
    """Without a list how many may come; else those that are not 0."""
    vcpu = _vcpu(call, XenErrno.EINVAL)
    call.not_on_self()
    if vcpu.domain.hvm:
        raise Refusal(XenErrno.EINVAL)
    if not call["msrs"]:
        call.answer(msr_count=_MSRS)
        return
    if call["msr_count"] < _MSRS:
        raise Refusal(XenErrno.ENOBUFS)
    call.memory.write(call["msrs"], vcpu.msrs)
    call.answer(msr_count=len(vcpu.msrs) // _MSR_BYTES)


@handles(domctl_vcpu.SET_VCPU_MSRS)
def set_vcpu_msrs(call: Call) -> None:
    vcpu = _vcpu(call, XenErrno.EINVAL)
    call.not_on_self()
    if vcpu.domain.hvm or call["msr_count"] > _MSRS:
        raise Refusal(XenErrno.EINVAL)
    vcpu.msrs = call.memory.read(call["msrs"], _MSR_BYTES * call["msr_count"])
