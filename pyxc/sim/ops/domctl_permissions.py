# SPDX-License-Identifier: MIT
"""domctl: which hardware a domain may use."""

from __future__ import annotations

from pyxc.abi import domctl_permissions as permissions
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.frame_set import FrameSet
from pyxc.sim.model.machine import GUEST_FRAMES, MACHINE_FRAMES
from pyxc.sim.ops.call import Call, handles

_MOST_PORTS = 1 << 16
_MAPPED_AT_ONCE = 64
_CHECKED = (4, 6)
"""The first release in which a domain can pass on only its own permissions."""


@handles(permissions.IOPORT_PERMISSION)
def ioport_permission(call: Call) -> None:
    first, count = call["first_port"], call["nr_ports"]
    stop = (first + count) & 0xFFFFFFFF
    checked = call.xen.profile.since(*_CHECKED)
    if stop > _MOST_PORTS or (checked and stop <= first):
        raise Refusal(XenErrno.EINVAL)
    _change(call, "io_ports", range(first, stop), call["allow_access"])


@handles(permissions.IOMEM_PERMISSION)
def iomem_permission(call: Call) -> None:
    """Without a frame it concerns all up to the one before: none is a wrong number of them."""
    first, count = call["first_mfn"], call["nr_mfns"]
    last = (first + count - 1) & (2**64 - 1)
    if last < first:
        raise Refusal(XenErrno.EINVAL)
    _change(call, "io_memory", range(first, last + 1), call["allow_access"])


@handles(permissions.IRQ_PERMISSION)
def irq_permission(call: Call) -> None:
    """dom0's name for the interrupt counts; before 4.6 it was taken for the interrupt itself."""
    own, pirq = call.xen.current.domain.hardware, call["pirq"]
    if pirq >= call.xen.irqs:
        raise Refusal(XenErrno.EINVAL)
    irq = own.pirqs.get(pirq, 0) if call.xen.profile.since(*_CHECKED) else pirq
    if irq == 0 and call.xen.profile.since(*_CHECKED):
        raise Refusal(XenErrno.EPERM)
    _change(call, "irqs", range(irq, irq + 1), call["allow_access"])


@handles(permissions.GSI_PERMISSION)
def gsi_permission(call: Call) -> None:
    """There is no interrupt behind the lines 0 and 2."""
    gsi, flags = call["gsi"], call["flags"]
    if flags & ~1:
        raise Refusal(XenErrno.EINVAL)
    if gsi >= call.xen.gsis:
        raise Refusal(XenErrno.ERANGE)
    if gsi in (0, 2):
        raise Refusal(XenErrno.EINVAL)
    _change(call, "irqs", range(gsi, gsi + 1), bool(flags))


def _change(call: Call, kind: str, what: range, allow: bool) -> None:
    """Give or take what dom0 has itself."""
    owned: FrameSet = getattr(call.xen.current.domain.hardware, kind)
    if call.xen.profile.since(*_CHECKED) and not owned.covers(what):
        raise Refusal(XenErrno.EPERM)
    changed: FrameSet = getattr(call.domain.hardware, kind)
    (changed.add if allow else changed.remove)(what)


@handles(permissions.MEMORY_MAPPING)
def memory_mapping(call: Call) -> int:
    """For a PV domain there is nothing to do, and since 4.20 nothing to permit."""
    domain, profile = call.domain, call.xen.profile
    gfns = range(call["first_gfn"], call["first_gfn"] + call["nr_mfns"])
    mfns = range(call["first_mfn"], call["first_mfn"] + call["nr_mfns"])
    if not mfns or max(mfns.stop, gfns.stop) > 2**64 or mfns[-1] >= MACHINE_FRAMES:
        raise Refusal(XenErrno.EINVAL)
    if profile.xen == (4, 6) and len(mfns) > _MAPPED_AT_ONCE:
        raise Refusal(XenErrno.E2BIG)
    if profile.since(4, 20) and not domain.hvm:
        return 0
    if not profile.since(*_CHECKED):
        allowed = domain.hardware.io_memory
        (allowed.add if call["add_mapping"] else allowed.remove)(mfns)
    elif not _may_map(call, domain, mfns):
        raise Refusal(XenErrno.EPERM)
    return _change_mapping(call, domain, gfns, mfns) if domain.hvm else 0


def _change_mapping(call: Call, domain: Domain, gfns: range, mfns: range) -> int:
    """Change as many at once as Xen does; returns the number, if not all. EINVAL: the first is another."""
    some = gfns[:_MAPPED_AT_ONCE] if call.xen.profile.since(4, 7) else gfns
    if some.stop > GUEST_FRAMES:
        raise Refusal(XenErrno.ENOENT)
    done = len(some)
    if call["add_mapping"]:
        domain.mmio.map(some, mfns.start)
    elif not (done := domain.mmio.unmap(some, mfns.start)):
        raise Refusal(XenErrno.EINVAL)
    return done if done < len(gfns) else 0


def _may_map(call: Call, domain: Domain, mfns: range) -> bool:
    """Since 4.22, removing a mapping needs no permission of the domain itself."""
    own = domain.hardware.io_memory.covers(mfns)
    free = call.xen.profile.since(4, 22) and not call["add_mapping"]
    return (own or free) and call.xen.current.domain.hardware.io_memory.covers(mfns)
