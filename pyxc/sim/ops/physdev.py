# SPDX-License-Identifier: MIT
"""physdev_op: interrupts of devices that domains get. No device raises any here."""

from __future__ import annotations

from pyxc.abi import physdev
from pyxc.abi.errno import XenErrno
from pyxc.abi.physdev import MapPirqType
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.ops.call import Call, handles

_MESSAGES = (MapPirqType.MSI, MapPirqType.MSI_SEG, MapPirqType.MULTI_MSI)
_FIRST_FREE = 16


@handles(physdev.MAP_PIRQ)
def map_pirq(call: Call) -> None:
    """A pirq that already belongs to another interrupt is silently kept."""
    domain, index = call.xen.find_any(call["domid"]), call["index"]
    if call["type"] in _MESSAGES:
        raise Refusal(XenErrno.ENODEV)
    if call["type"] != MapPirqType.GSI or not 0 <= index < call.xen.gsis:
        raise Refusal(XenErrno.EINVAL)
    own = call.xen.current.domain.hardware
    irq = own.pirqs.get(index, index)
    pirq = _chosen(call, domain, irq)
    if irq not in own.irqs:
        raise Refusal(XenErrno.EPERM)
    if not 0 <= pirq < call.xen.irqs:
        raise Refusal(XenErrno.EINVAL)
    if domain.hardware.pirqs.setdefault(pirq, irq) == irq:
        domain.hardware.irqs.add(range(irq, irq + 1))
    call.answer(pirq=pirq)


def _chosen(call: Call, domain: Domain, irq: int) -> int:
    """The requested pirq, the one that the interrupt has, or the first free one."""
    pirqs, wanted = domain.hardware.pirqs, call["pirq"]
    current = next((pirq for pirq, mapped in pirqs.items() if mapped == irq), None)
    if wanted >= 0:
        if current not in (None, wanted):
            raise Refusal(XenErrno.EEXIST)
        return int(wanted)
    if current is not None:
        if not call.xen.profile.since(4, 17):  # -1 was left as it was, and taken for an error
            raise Refusal(XenErrno.EPERM)
        return current
    return next(pirq for pirq in range(_FIRST_FREE, call.xen.irqs) if pirq not in pirqs)


@handles(physdev.UNMAP_PIRQ)
def unmap_pirq(call: Call) -> None:
    hardware = call.xen.find_any(call["domid"]).hardware
    irq = hardware.pirqs.pop(call["pirq"], None)
    if irq is None:
        raise Refusal(XenErrno.EINVAL)
    hardware.irqs.remove(range(irq, irq + 1))
