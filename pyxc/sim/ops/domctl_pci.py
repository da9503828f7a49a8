# SPDX-License-Identifier: MIT
"""domctl: PCI devices, on a host that has an IOMMU, and the refusals of one that has not."""

from __future__ import annotations

import struct

from pyxc.abi import domctl_pci
from pyxc.abi.domctl_pci import DEV_PCI, DEV_RDM_RELAXED
from pyxc.abi.domid import DOMID_IO
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.ops.call import Call, handles

_SELF_CHECKED = (4, 12)
"""Since when a domain cannot give devices to itself."""


def _need_iommu(call: Call) -> None:
    """From 4.13 on it is the domain that has one or not, from when it is made."""
    profile = call.xen.profile
    if not profile.iommu or (profile.since(4, 13) and not call.domain.iommu):
        raise Refusal(XenErrno.EOPNOTSUPP if profile.since(4, 13) else XenErrno.ENOSYS)


def _check(call: Call, flags: int) -> None:
    if call.xen.profile.since(*_SELF_CHECKED):
        call.not_on_self()
    if call.fields.get("dev", DEV_PCI) != DEV_PCI:
        raise Refusal(XenErrno.ENODEV)
    if (call.fields.get("flags", 0) | call.fields.get("flag", 0)) & ~flags:
        raise Refusal(XenErrno.EINVAL)


def _device(call: Call) -> int:
    """Segment, bus, device and function, as they are packed since 4.2."""
    if "machine_bdf" in call.fields:
        return int(call["machine_bdf"]) >> 8 & 0xFFFF
    return int(call["machine_sbdf" if "machine_sbdf" in call.fields else "u.pci.machine_sbdf"])


def _available(call: Call, device: int) -> None:
    """Refusal (ENODEV, EBUSY) unless a device is dom0's. Up to 4.13 a missing one was EBUSY, too."""
    owner = call.xen.pci.get(device)
    if owner is None and call.xen.profile.since(4, 14):
        raise Refusal(XenErrno.ENODEV)
    if owner not in (call.xen.current.domain.domid, DOMID_IO):
        raise Refusal(XenErrno.EBUSY)


@handles(domctl_pci.ASSIGN_DEVICE)
def assign_device(call: Call) -> None:
    _need_iommu(call)
    _check(call, DEV_RDM_RELAXED)
    if call.domain.dying:
        raise Refusal(XenErrno.EINVAL)
    device = _device(call)
    _available(call, device)
    call.xen.pci[device] = call.domain.domid


@handles(domctl_pci.TEST_ASSIGN_DEVICE)
def test_assign_device(call: Call) -> None:
    _need_iommu(call)
    _check(call, 0)
    try:
        _available(call, _device(call))
    except Refusal as refusal:
        raise Refusal(XenErrno.EINVAL) from refusal


@handles(domctl_pci.DEASSIGN_DEVICE)
def deassign_device(call: Call) -> None:
    _need_iommu(call)
    _check(call, 0)
    device = _device(call)
    if call.xen.pci.get(device) != call.domain.domid:
        raise Refusal(XenErrno.ENODEV)
    call.xen.pci[device] = call.xen.current.domain.domid


@handles(domctl_pci.GET_DEVICE_GROUP)
def get_device_group(call: Call) -> None:
    """Functions of one device form a group here. Members are bus << 16 | device and function << 8."""
    _need_iommu(call)
    asked = _device(call)
    found = [
        (device & 0xFFFF) << 8
        for device, owner in call.xen.pci.items()
        if owner == call.domain.domid and device != asked and device >> 3 == asked >> 3
    ][: call["max_sdevs"]]
    call.memory.write(call["sdev_array"], struct.pack(f"{call.layout.order}{len(found)}I", *found))
    call.answer(num_sdevs=len(found))
