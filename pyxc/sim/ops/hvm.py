# SPDX-License-Identifier: MIT
"""hvm_op: parameters and types of pages of HVM and PVH domains."""

from __future__ import annotations

from pyxc.abi import hvm
from pyxc.abi.errno import XenErrno
from pyxc.abi.hvm import HvmParam, MemType, nr_params
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.ops.call import Call, handles

_DEPRECATED = {
    HvmParam.PAE_ENABLED: (4, 14),
    HvmParam.DM_DOMAIN: (4, 14),
    HvmParam.MEMORY_EVENT_CR0: (4, 14),
    HvmParam.MEMORY_EVENT_CR3: (4, 14),
    HvmParam.MEMORY_EVENT_CR4: (4, 14),
    HvmParam.MEMORY_EVENT_INT3: (4, 14),
    HvmParam.NESTEDHVM: (4, 15),
    HvmParam.MEMORY_EVENT_SINGLE_STEP: (4, 14),
    HvmParam.BUFIOREQ_EVTCHN: (4, 14),
    HvmParam.MEMORY_EVENT_MSR: (4, 14),
}
"""Parameters that exist by number only, and the first release that refuses access to them."""
_ONCE = {
    HvmParam.VIRIDIAN,
    HvmParam.IOREQ_PFN,
    HvmParam.BUFIOREQ_PFN,
    HvmParam.IOREQ_SERVER_PFN,
    HvmParam.NR_IOREQ_SERVER_PAGES,
    HvmParam.ALTP2M,
    HvmParam.MCA_CAP,
}
_VALUES = {
    HvmParam.TIMER_MODE: range(4),
    HvmParam.ACPI_S_STATE: (0, 3),
    HvmParam.TRIPLE_FAULT_REASON: range(6),
    HvmParam.NR_IOREQ_SERVER_PAGES: range(1, 65),
    HvmParam.ALTP2M: range(4),
    HvmParam.X87_FIP_WIDTH: (0, 4, 8),
}


def _domain(call: Call) -> Domain:
    """The translated domain that is meant, once the parameter is known to exist."""
    index = call["index"]
    if index >= nr_params(call.xen.profile.xen):
        raise Refusal(XenErrno.EINVAL)
    domain = call.xen.find_any(call["domid"])
    gone = index in _DEPRECATED and call.xen.profile.since(*_DEPRECATED[index])
    if not domain.hvm or gone:
        raise Refusal(XenErrno.EINVAL)
    return domain


@handles(hvm.GET_PARAM)
def get_param(call: Call) -> None:
    domain = _domain(call)
    call.answer(value=domain.params.get(call["index"], 0))


@handles(hvm.SET_PARAM)
def set_param(call: Call) -> None:
    domain = _domain(call)
    index, value = call["index"], call["value"]
    if index == HvmParam.ALTP2M and call.xen.profile.since(4, 20):
        raise Refusal(XenErrno.EEXIST)
    once = index in _ONCE and call.xen.profile.since(4, 7)
    if once and domain.params.get(index, 0) not in (0, value):
        raise Refusal(XenErrno.EEXIST)
    if index in _VALUES and value not in _VALUES[index]:
        raise Refusal(XenErrno.EINVAL)
    domain.params[index] = value


@handles(hvm.GET_MEM_TYPE)
def get_mem_type(call: Call) -> None:
    """In log-dirty mode pages are read-only until they are written, then dirty."""
    domain, pfn = call.xen.find_any(call["domid"]), call["pfn"]
    if not domain.hvm:
        raise Refusal(XenErrno.EINVAL)
    if pfn not in domain.p2m:
        kind = MemType.MMIO_DM
    elif domain.dirty is not None and pfn not in domain.dirty:
        kind = MemType.RAM_RO
    else:
        kind = MemType.RAM_RW
    call.answer(mem_type=kind)
