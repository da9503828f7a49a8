# SPDX-License-Identifier: MIT
"""domctl: vcpus, where they run and what is in their registers."""

from __future__ import annotations

from pyxc.abi import domctl
from pyxc.abi.domctl import AffinityFlag
from pyxc.abi.errno import XenErrno
from pyxc.sim.model import context
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Vcpu
from pyxc.sim.ops.bitmap import read_bitmap, write_bitmap
from pyxc.sim.ops.call import Call, handles


@handles(domctl.GETVCPUINFO)
def getvcpuinfo(call: Call) -> None:
    """Since 4.22 a missing vcpu has a separate errno."""
    vcpu = call.domain.vcpu(call["vcpu"]) if call.xen.profile.since(4, 22) else call.vcpu()
    if vcpu is None:
        raise Refusal(XenErrno.ENOENT)
    call.answer(
        online=not vcpu.down,
        blocked=vcpu.blocked,
        running=vcpu.running,
        cpu_time=vcpu.cpu_time_ns(call.xen.clock_ns),
        cpu=vcpu.pcpu,
    )


def _has_flags(call: Call) -> bool:
    """Whether maps are chosen by flags. Before 4.5 there was only one, that of hard affinity."""
    return "flags" in call.layout.index


def _chosen(call: Call) -> Vcpu:
    """The vcpu, when flags and maps make sense."""
    vcpu, flags = call.vcpu(), call["flags"]
    for flag, name in ((AffinityFlag.HARD, "cpumap_hard"), (AffinityFlag.SOFT, "cpumap_soft")):
        if flags & flag and not call[f"{name}.bitmap"]:
            raise Refusal(XenErrno.EINVAL)
    if not flags:
        raise Refusal(XenErrno.EINVAL)
    return vcpu


@handles(domctl.GETVCPUAFFINITY)
def getvcpuaffinity(call: Call) -> None:
    """Both maps are written even if one cannot be; before 4.20 a fault in the first of two is forgotten."""
    if not _has_flags(call):
        _former_getvcpuaffinity(call)
        return
    vcpu, flags = _chosen(call), call["flags"]
    maps = ((AffinityFlag.HARD, "cpumap_hard", vcpu.hard), (AffinityFlag.SOFT, "cpumap_soft", vcpu.soft))
    written = [_write(call, name, members) for flag, name, members in maps if flags & flag]
    told = written if call.xen.profile.since(4, 20) else written[-1:]
    if not all(told):
        raise Refusal(XenErrno.EFAULT)


def _former_getvcpuaffinity(call: Call) -> None:
    """Before 4.1 a fault was forgotten."""
    written = _write(call, "cpumap", call.vcpu().hard)
    if not written and call.xen.profile.since(4, 1):
        raise Refusal(XenErrno.EFAULT)


def _write(call: Call, name: str, members: int) -> bool:
    """Whether a map could be written."""
    try:
        write_bitmap(call, name, members, call.xen.possible_pcpus)
    except Refusal:
        return False
    return True


@handles(domctl.SETVCPUAFFINITY)
def setvcpuaffinity(call: Call) -> None:
    """What will take effect comes back in the maps; an error leaves everything as it was."""
    if not _has_flags(call):
        _former_setvcpuaffinity(call)
        return
    vcpu, pcpus = _chosen(call), call.xen.pcpus
    before, pool = vcpu.hard, call.xen.cpus_of(call.domain)
    if call["flags"] & AffinityFlag.HARD:
        hard = read_bitmap(call, "cpumap_hard", pcpus)
        if not hard & pool:
            raise Refusal(XenErrno.EINVAL)
        vcpu.hard = hard
        write_bitmap(call, "cpumap_hard", hard & pool, pcpus)
    if call["flags"] & AffinityFlag.SOFT:
        try:
            vcpu.soft = read_bitmap(call, "cpumap_soft", pcpus)
        except Refusal:
            vcpu.hard = before
            raise
        write_bitmap(call, "cpumap_soft", vcpu.soft & vcpu.hard & pool, pcpus)
    call.xen.schedule()


def _former_setvcpuaffinity(call: Call) -> None:
    """The whole set is kept, if any of its cpus is there."""
    vcpu = call.vcpu()
    hard = read_bitmap(call, "cpumap", call.xen.possible_pcpus)
    if not hard & call.xen.cpus_of(call.domain):
        raise Refusal(XenErrno.EINVAL)
    vcpu.hard = hard
    call.xen.schedule()


def _vcpu_with_context(call: Call) -> Vcpu:
    vcpu = call.domain.vcpu(call["vcpu"])
    if vcpu is None:
        raise Refusal(XenErrno.EINVAL)
    return vcpu


@handles(domctl.GETVCPUCONTEXT)
def getvcpucontext(call: Call) -> None:
    """Up to 4.1 a vcpu could ask for its own, and one that was never made was ESRCH."""
    if call.xen.profile.since(4, 2):
        vcpu = _vcpu_with_context(call)
        if vcpu is call.xen.current:
            raise Refusal(XenErrno.EINVAL)
    else:
        vcpu = call.vcpu()
    if vcpu.context is None:
        raise Refusal(XenErrno.ENODATA)
    call.memory.write(call["ctxt"], context.shown(call.xen, vcpu, vcpu.context))


@handles(domctl.SETVCPUCONTEXT)
def setvcpucontext(call: Call) -> None:
    """Without a context the vcpu goes back to how it was made."""
    call.not_on_self()
    vcpu = _vcpu_with_context(call)
    if call["ctxt"]:
        data = call.memory.read(call["ctxt"], context.layout_of(call.xen, vcpu.domain).size)
        context.install(call.xen, vcpu, data)
    else:
        vcpu.reset()
    call.xen.schedule()
