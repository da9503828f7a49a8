# SPDX-License-Identifier: MIT
"""dom0_op: vcpus, where they run and what is in their registers."""

from __future__ import annotations

from pyxc.abi import dom0_ops
from pyxc.abi.errno import XenErrno
from pyxc.sim.model import context_2006
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.creation import FORMER_MOST_VCPUS
from pyxc.sim.model.domain import Domain, Vcpu
from pyxc.sim.ops.call import Call, handles
from pyxc.sim.ops.dom0_op import domain_of, other_domain_of


def _shown_vcpu(call: Call) -> Vcpu:
    """The vcpu that the structure names: EINVAL for 32 and above, ESRCH if it does not exist."""
    domain, index = domain_of(call), call["vcpu"]
    if index >= FORMER_MOST_VCPUS:
        raise Refusal(XenErrno.EINVAL)
    vcpu = domain.vcpu(index)
    if vcpu is None:
        raise Refusal(XenErrno.ESRCH)
    return vcpu


def _changed_vcpu(call: Call, domain: Domain) -> Vcpu:
    """The same for operations that change it: EINVAL for both."""
    vcpu = domain.vcpu(call["vcpu"])
    if vcpu is None:
        raise Refusal(XenErrno.EINVAL)
    return vcpu


@handles(dom0_ops.GETVCPUINFO)
def getvcpuinfo(call: Call) -> None:
    vcpu = _shown_vcpu(call)
    call.answer(
        online=not vcpu.down,
        blocked=vcpu.blocked,
        running=vcpu.running,
        cpu_time=vcpu.cpu_time_ns(call.xen.clock_ns),
        cpu=vcpu.pcpu,
        cpumap=vcpu.hard,
    )


@handles(dom0_ops.SETVCPUAFFINITY)
def setvcpuaffinity(call: Call) -> None:
    """Cpus that the host has not are kept, as long as there is one that it has."""
    vcpu, pcpus = _changed_vcpu(call, domain_of(call)), call.xen.pcpus
    if vcpu is call.xen.current or not call["cpumap"] & ((1 << pcpus) - 1):
        raise Refusal(XenErrno.EINVAL)
    vcpu.hard = call["cpumap"]
    call.xen.schedule()


@handles(dom0_ops.GETVCPUCONTEXT)
def getvcpucontext(call: Call) -> None:
    """The caller's own vcpu shows what it had when it last entered its kernel."""
    vcpu = _shown_vcpu(call)
    if vcpu.context is None:
        raise Refusal(XenErrno.ENODATA)
    call.memory.write(call["ctxt"], vcpu.context)


@handles(dom0_ops.SETVCPUCONTEXT)
def setvcpucontext(call: Call) -> None:
    """Xen of 2006 hangs when dom0 does this to itself; here it is EINVAL."""
    vcpu = _changed_vcpu(call, other_domain_of(call))
    data = call.memory.read(call["ctxt"], context_2006.layout_of(call.xen).size)
    context_2006.install(call.xen, vcpu, data)
    call.xen.schedule()
