# SPDX-License-Identifier: MIT
"""PCI devices and their interrupts, on a host without IOMMU."""

from __future__ import annotations

from typing import Any

from callscripts import Script
from pyxc.abi import domctl_pci as pci
from pyxc.abi import physdev
from pyxc.abi.domid import DOMID_INVALID
from pyxc.abi.operation import Operation
from pyxc.abi.physdev import MapPirqType

NOT_ON_DOM0 = (physdev.MAP_PIRQ, physdev.UNMAP_PIRQ)
SBDF = 0x0008
"""0000:00:01.0, which a machine has."""


def run(script: Script) -> None:
    pv, pvh = script.pv(), script.pvh()
    assignment(script, pv, pvh)
    interrupts(script, pv, pvh)


def device(script: Script, operation: Operation, number: int = SBDF) -> dict[str, int]:
    names = ("u.pci.machine_sbdf", "machine_sbdf")
    return {name: number for name in names if script.xen.caller.has_field(operation, name)}


def assignment(script: Script, pv: int, pvh: int) -> None:
    for operation in (pci.TEST_ASSIGN_DEVICE, pci.ASSIGN_DEVICE, pci.DEASSIGN_DEVICE):
        fields = device(script, operation)
        script.step("pv", operation, pv, **fields)
        script.step("pvh", operation, pvh, **fields)
        script.step("dom0", operation, 0, **fields)
        if operation is not pci.TEST_ASSIGN_DEVICE:  # this one makes Xen 4.14 crash
            script.step("nobody", operation, DOMID_INVALID, **fields)
        script.step("device tree", operation, pv, dev=1, **fields)
        script.step("missing device", operation, pv, **device(script, operation, 0xFFFF00))
    fields = device(script, pci.GET_DEVICE_GROUP)
    script.step("pv", pci.GET_DEVICE_GROUP, pv, max_sdevs=4, sdev_array=16, **fields)
    script.step("dom0", pci.GET_DEVICE_GROUP, 0, max_sdevs=4, sdev_array=16, **fields)


def interrupts(script: Script, pv: int, pvh: int) -> None:
    def map_pirq(case: str, domid: int, index: int, pirq: int = -1, **other: Any) -> int:
        fields = {"type": int(MapPirqType.GSI), "index": index, "pirq": pirq, **other}
        reply = script.step(case, physdev.MAP_PIRQ, domid, **fields)
        return -1 if reply is None else int(reply.field("pirq"))

    def unmap(case: str, domid: int, pirq: int) -> None:
        script.step(case, physdev.UNMAP_PIRQ, domid, pirq=pirq)

    pirq = map_pirq("success", pv, 17)
    map_pirq("again", pv, 17)
    map_pirq("elsewhere", pv, 17, 30)
    map_pirq("chosen", pv, 18, 18)
    map_pirq("taken", pv, 19, 18)
    map_pirq("zero", pv, 0)
    map_pirq("negative", pv, -1)
    map_pirq("missing", pv, 100_000)
    map_pirq("pirq out of range", pv, 20, 1 << 20)
    map_pirq("unknown type", pv, 20, type=99)
    map_pirq("msi", pv, -1, type=int(MapPirqType.MSI_SEG), devfn=8)
    map_pirq("pvh", pvh, 21)
    unmap("success", pv, pirq)
    unmap("again", pv, pirq)
    unmap("negative", pv, -1)
    unmap("out of range", pv, 1 << 20)
    unmap("pvh", pvh, 21)
    script.without_mistakes(physdev.UNMAP_PIRQ)
