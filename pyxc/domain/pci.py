# SPDX-License-Identifier: MIT
"""PCI devices: assigning them to domains."""

from __future__ import annotations

import errno
import re
from array import array
from typing import NamedTuple

from pyxc import answers, arguments, errors
from pyxc.abi import domctl_pci as operations
from pyxc.abi.domctl_pci import DEV_PCI, DEV_RDM_RELAXED
from pyxc.abi.operation import Operation
from pyxc.domain.identity import Identity
from pyxc.host.host import Host

_ADDRESS = re.compile(r"(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])", re.IGNORECASE)
_GROUP_ROOM = 64
_GROUP_MOST = 1 << 16
"""The number of functions in a segment."""
_FORMER = "machine_bdf"
"""The field's name up to Xen 4.1, which packs devices differently and has no segments."""
_NAMES = ("u.pci.machine_sbdf", "machine_sbdf", _FORMER)


class PciAddress(NamedTuple):
    """The address of a PCI device. str() has the form of lspci -D: 0000:03:00.0.

    Example:

    >>> str(pyxc.PciAddress.parse("03:00.1"))
    '0000:03:00.1'
    """

    segment: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> PciAddress:
        """ "0000:03:00.0", or "03:00.0" in segment 0; all hexadecimal. ValueError for another syntax."""
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match[3], 16) > 31:
            raise ValueError(f"{text!r} is not a PCI address like 0000:03:00.0")
        return cls(int(match[1] or "0", 16), int(match[2], 16), int(match[3], 16), int(match[4], 16))

    @property
    def sbdf(self) -> int:
        """The packed form of Xen since 4.2."""
        return self.segment << 16 | self.bus << 8 | self.device << 3 | self.function

    def __str__(self) -> str:
        return f"{self.segment:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"


class Pci:
    """The PCI devices of a domain. Threads: safe to share.

    A device must first be detached from its driver in dom0 (`xen.assignable_devices.add()`), and the host
    needs an IOMMU: Unsupported without one. Since Xen 4.13 the domain must be created for this, see
    Domains.create().

    Example:

    >>> host = pyxc.open("sim:xen-4.17-pci")
    >>> guest = host.domains.create(hvm=True, hap=True, iommu=True)
    >>> guest.pci.assign("0000:03:00.0")
    """

    def __init__(self, domain: Identity) -> None:
        self._domain = domain
        self._xen = domain.xen

    def assign(self, device: PciAddress | str, rdm_relaxed: bool = False) -> None:
        """Assign a device (domctl assign_device). ENODEV: no such device; EBUSY: another domain has it.

        `rdm_relaxed` accepts a device even if the guest has memory in the device's reserved ranges; ignored
        before Xen 4.6, which always does so.
        """
        fields = device_fields(self._xen, operations.ASSIGN_DEVICE, device_address(device))
        if rdm_relaxed:
            fields |= relaxed_fields(self._xen)
        self._domain.change(operations.ASSIGN_DEVICE, **fields)

    def can_assign(self, device: PciAddress | str) -> bool:
        """Whether a device exists and no domain but dom0 has it (domctl test_assign_device)."""
        fields = device_fields(self._xen, operations.TEST_ASSIGN_DEVICE, device_address(device))
        try:
            self._domain.call(operations.TEST_ASSIGN_DEVICE, **fields)
        except errors.HypercallError as error:
            if error.errno in (errno.EINVAL, errno.ENODEV, errno.EBUSY):
                return False
            raise
        return True

    def deassign(self, device: PciAddress | str) -> None:
        """Remove a device (domctl deassign_device). ENODEV if the domain does not have it."""
        fields = device_fields(self._xen, operations.DEASSIGN_DEVICE, device_address(device))
        self._domain.change(operations.DEASSIGN_DEVICE, **fields)

    def group(self, device: PciAddress | str) -> list[PciAddress]:
        """The domain's devices that the IOMMU cannot distinguish from this one (domctl get_device_group)."""
        address = device_address(device)
        fields = device_fields(self._xen, operations.GET_DEVICE_GROUP, address)
        room = _GROUP_ROOM
        while True:
            reply = self._domain.call(
                operations.GET_DEVICE_GROUP, max_sdevs=room, sdev_array=4 * room, **fields
            )
            found = self._xen.words32(reply.buffers["sdev_array"][: 4 * reply.field("num_sdevs")])
            if len(found) < room:
                return _group(found, address.segment)
            room = answers.number("size of a group", room * 4, _GROUP_MOST)

    def __repr__(self) -> str:
        return f"<Pci of domain {self._domain.domid}>"


def device_address(device: PciAddress | str) -> PciAddress:
    """The address of a device. ValueError, TypeError."""
    address = PciAddress.parse(device) if isinstance(device, str) else PciAddress(*device)
    for name, value, most in zip(address._fields, address, (0xFFFF, 0xFF, 0x1F, 0x7)):
        arguments.natural(name, value, most)
    return address


def device_fields(xen: Host, operation: Operation, address: PciAddress) -> dict[str, int]:
    """The fields that name a device, in the packing of this Xen."""
    name = next(name for name in _NAMES if xen.caller.has_field(operation, name))
    kind = {"dev": DEV_PCI} if xen.caller.has_field(operation, "dev") else {}
    if name != _FORMER:
        return {name: address.sbdf, **kind}
    if address.segment:
        raise ValueError(f"{address}: before Xen 4.2 only devices of segment 0 exist")
    return {name: address.sbdf << 8}


def relaxed_fields(xen: Host) -> dict[str, int]:
    """The field that accepts a device whose reserved ranges have memory."""
    names = ("flag", "flags")
    return {name: DEV_RDM_RELAXED for name in names if xen.caller.has_field(operations.ASSIGN_DEVICE, name)}


def _group(found: array[int], segment: int) -> list[PciAddress]:
    """Every release reports members as bus << 16 | device << 11 | function << 8."""
    return [
        PciAddress(segment, word >> 16 & 0xFF, word >> 11 & 0x1F, word >> 8 & 0x7) for word in sorted(found)
    ]
