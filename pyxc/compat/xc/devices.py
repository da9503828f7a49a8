# SPDX-License-Identifier: MIT
"""xen.lowlevel.xc: devices and interrupts of domains, event channels, and clocks."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import SupportsIndex

from pyxc import errors
from pyxc.abi import domctl, domctl_pci, domctl_permissions, domctl_tsc, event_channel, physdev
from pyxc.abi.domid import DOMID_SELF
from pyxc.abi.operation import Operation
from pyxc.abi.physdev import MapPirqType
from pyxc.compat.xc import base as c
from pyxc.compat.xc.base import Handle, failed, raises_error

_NUMBER_FIELDS = ("machine_sbdf", "u.pci.machine_sbdf", "machine_bdf")
"""Where an operation has the device, by release."""
_MOST_SIBLINGS = 1024
_NO_SUCH_CALL = -1


@raises_error
class Devices(Handle):
    """Devices and interrupts of domains, event channels, and clocks."""

    def get_device_group(
        self,
        domid: SupportsIndex,
        seg: SupportsIndex,
        bus: SupportsIndex,
        dev: SupportsIndex,
        func: SupportsIndex,
        /,
    ) -> str:
        """Get the PCI devices that can only be assigned together with one.

         domid [int]: the domain's id
         seg   [int]: the device's PCI segment
         bus   [int]: the device's bus
         dev   [int]: the device's number
         func  [int]: the device's function

        Returns: [str] as "00:19.0,00:1f.3,", without segments; "" for none.
        """
        wanted = c.domid(domid)
        number = self._packed(c.integer(seg), c.integer(bus), c.integer(dev), c.integer(func))
        xen = self._open
        reply = xen.call(
            domctl_pci.GET_DEVICE_GROUP,
            wanted,
            max_sdevs=_MOST_SIBLINGS,
            sdev_array=4 * _MOST_SIBLINGS,
            **{self._number_field(domctl_pci.GET_DEVICE_GROUP): number},
        )
        found = xen.words32(reply.buffers["sdev_array"])[: reply.field("num_sdevs")]
        return "".join(f"{n >> 16 & 0xFF:02x}:{n >> 11 & 0x1F:02x}.{n >> 8 & 7:x}," for n in found)

    def test_assign_device(self, domid: SupportsIndex, pci: str) -> int:
        """Ask whether PCI devices could be given to a domain.

         domid [int]: the domain's id
         pci   [str]: the devices, as "0xSEGMENT,0xBUS,0xDEVICE,0xFUNCTION[,0xSEGMENT,...]"

        Returns: [int] 0, or the first device that could not (see assign_device), or -1: not with this Xen.
        """
        return self._each(domctl_pci.TEST_ASSIGN_DEVICE, domid, pci)

    def assign_device(self, domid: SupportsIndex, pci: str) -> int:
        """Give PCI devices to a domain.

         domid [int]: the domain's id
         pci   [str]: the devices, as "0xSEGMENT,0xBUS,0xDEVICE,0xFUNCTION[,0xSEGMENT,...]"

        Returns: [int] 0, or the first device that could not be given, as segment << 16 | bus << 8 |
         device << 3 | function (before Xen 4.2 bus << 16 | device << 11 | function << 8), or -1: not with
         this Xen.
        """
        return self._each(domctl_pci.ASSIGN_DEVICE, domid, pci)

    def deassign_device(self, domid: SupportsIndex, pci: str) -> int:
        """Take PCI devices from a domain.

         domid [int]: the domain's id
         pci   [str]: the devices, as "0xSEGMENT,0xBUS,0xDEVICE,0xFUNCTION[,0xSEGMENT,...]"

        Returns: [int] 0, or the first device that could not be taken (see assign_device), or -1: not with
         this Xen.
        """
        return self._each(domctl_pci.DEASSIGN_DEVICE, domid, pci)

    def _each(self, operation: Operation, domid: SupportsIndex, pci: str) -> int:
        """Like the original it does not raise, but returns the device that failed."""
        wanted = c.integer(domid)
        for place in _places(c.text(pci)):
            number = self._packed(*place)
            error = self._error_of(operation, wanted, number)
            if error:
                return _NO_SUCH_CALL if error == errno.ENOSYS else c.signed(number)
        return 0

    def _error_of(self, operation: Operation, wanted: int, number: int) -> int:
        """What comes of asking for one device: 0, or an errno."""
        try:
            self._open.call(operation, c.domid(wanted), **{self._number_field(operation): number})
        except (errors.HypercallError, c.Error) as error:
            return error.errno or errno.EIO
        return 0

    def _number_field(self, operation: Operation) -> str:
        has_field = self._open.caller.has_field
        return next(name for name in _NUMBER_FIELDS if has_field(operation, name))

    def _packed(self, seg: int, bus: int, dev: int, func: int) -> int:
        """A device as the hypervisor's own release numbers it."""
        if self._open.interface.xen < (4, 2):
            return (bus & 0xFF) << 16 | (dev & 0x1F) << 11 | (func & 7) << 8
        return (seg & 0xFFFF) << 16 | (bus & 0xFF) << 8 | (dev & 0x1F) << 3 | func & 7

    def physdev_map_pirq(self, domid: SupportsIndex, index: SupportsIndex, pirq: SupportsIndex) -> int:
        """Let a domain have an interrupt of the host.

         domid [int]: the domain's id
         index [int]: the host's interrupt (GSI)
         pirq  [int]: the number that the domain calls it by; -1: the same

        Returns: [int] that number.
        """
        dom, gsi, wanted = c.domid(domid), c.integer(index), c.integer(pirq)
        fields = {"type": MapPirqType.GSI, "index": gsi, "pirq": gsi if wanted < 0 else wanted}
        return int(self._open.call(physdev.MAP_PIRQ, dom, **fields).field("pirq"))

    def physdev_pci_access_modify(
        self,
        domid: SupportsIndex,
        bus: SupportsIndex,
        dev: SupportsIndex,
        func: SupportsIndex,
        enable: SupportsIndex,
    ) -> int:
        """Raise Error (ENOSYS): no Xen has had this since 3.0; see assign_device.

        domid  [int]: the domain's id
        bus    [int]: the device's bus
        dev    [int]: the device's number
        func   [int]: the device's function
        enable [int]: whether the domain may use it
        """
        for value in (domid, bus, dev, func, enable):
            c.integer(value)
        raise failed(errno.ENOSYS)

    def domain_ioport_permission(
        self,
        domid: SupportsIndex,
        first_port: SupportsIndex,
        nr_ports: SupportsIndex,
        allow_access: SupportsIndex,
    ) -> int:
        """Let a domain use I/O ports, or not.

         domid        [int]: the domain's id
         first_port   [int]: the first port
         nr_ports     [int]: how many
         allow_access [int]: whether it may use them

        Returns: [int] 0.
        """
        self._open.call(
            domctl_permissions.IOPORT_PERMISSION,
            c.domid(domid),
            first_port=c.unsigned(first_port),
            nr_ports=c.unsigned(nr_ports),
            allow_access=bool(c.integer(allow_access)),
        )
        return 0

    def domain_irq_permission(
        self, domid: SupportsIndex, pirq: SupportsIndex, allow_access: SupportsIndex
    ) -> int:
        """Let a domain use an interrupt of the host, or not.

         domid        [int]: the domain's id
         pirq         [int]: the interrupt
         allow_access [int]: whether it may use it

        Returns: [int] 0.
        """
        self._open.call(
            domctl_permissions.IRQ_PERMISSION,
            c.domid(domid),
            pirq=c.unsigned(pirq),
            allow_access=bool(c.integer(allow_access)),
        )
        return 0

    def domain_iomem_permission(
        self,
        domid: SupportsIndex,
        first_pfn: SupportsIndex,
        nr_pfns: SupportsIndex,
        allow_access: SupportsIndex,
    ) -> int:
        """Let a domain use memory of devices, or not.

         domid        [int]: the domain's id
         first_pfn    [int]: the first page
         nr_pfns      [int]: how many pages
         allow_access [int]: whether it may use them

        Returns: [int] 0.
        """
        self._open.call(
            domctl_permissions.IOMEM_PERMISSION,
            c.domid(domid),
            first_mfn=c.wide(first_pfn),
            nr_mfns=c.wide(nr_pfns),
            allow_access=bool(c.integer(allow_access)),
        )
        return 0

    def evtchn_alloc_unbound(self, domid: SupportsIndex, remote_dom: SupportsIndex) -> int:
        """Open an event channel of a domain for another one to connect to.

         domid      [int]: the domain's id
         remote_dom [int]: the other domain's id

        Returns: [int] the port.
        """
        dom, remote = c.domid(domid), c.domid(remote_dom)
        return int(self._open.call(event_channel.ALLOC_UNBOUND, dom, remote_dom=remote).field("port"))

    def evtchn_reset(self, dom: SupportsIndex) -> int:
        """Close all event channels of a domain. An Error (EINVAL) for the domain that asks: it would stop.

         dom [int]: the domain's id

        Returns: [int] 0.
        """
        wanted = c.domid(dom)
        if wanted in (self._open.own_domid, DOMID_SELF):
            raise failed(errno.EINVAL)
        self._open.call(event_channel.RESET, wanted)
        return 0

    def domain_send_trigger(
        self, domid: SupportsIndex, trigger: SupportsIndex, vcpu: SupportsIndex = 0
    ) -> int:
        """Let something happen to a domain from outside.

         domid   [int]:    the domain's id
         trigger [int]:    0: NMI, 1: reset, 2: INIT, 3: power button, 4: sleep button
         vcpu    [int, 0]: to which vcpu

        Returns: [int] 0.
        """
        dom, kind, index = c.domid(domid), c.unsigned(trigger), c.unsigned(vcpu)
        self._open.call(domctl.SENDTRIGGER, dom, trigger=kind, vcpu=index)
        return 0

    def domain_set_time_offset(self, dom: SupportsIndex, offset: SupportsIndex, /) -> int:
        """Let a domain's clock differ from UTC.

         dom    [int]: the domain's id
         offset [int]: by so many seconds

        Returns: [int] 0.
        """
        self._open.call(domctl.SETTIMEOFFSET, c.domid(dom), time_offset_seconds=c.integer(offset))
        return 0

    def domain_set_tsc_info(self, dom: SupportsIndex, tsc_mode: SupportsIndex, /) -> int:
        """Choose how a domain sees the cpu's time stamp counter.

         dom      [int]: the domain's id
         tsc_mode [int]: 0: native where that is safe, 1: always emulated, 2: never emulated

        Returns: [int] 0.
        """
        former = self._open.caller.has_field(domctl_tsc.SETTSCINFO, "info.tsc_mode")
        field = "info.tsc_mode" if former else "tsc_mode"
        self._open.call(domctl_tsc.SETTSCINFO, c.domid(dom), **{field: c.unsigned(tsc_mode)})
        return 0


def _places(pci: str) -> Iterator[tuple[int, ...]]:
    """The devices of a list, each a segment, bus, device and function. Error (EINVAL) for anything else.

    If one of them is malformed there is no hypercall; a list without a comma is empty.
    """
    numbers = [_hexadecimal(word) for word in pci.rstrip(",").split(",")] if "," in pci else []
    if len(numbers) % 4:
        raise failed(errno.EINVAL)
    return zip(*[iter(numbers)] * 4)


def _hexadecimal(word: str) -> int:
    try:
        return int(word.partition("x")[2], 16)
    except ValueError:
        raise failed(errno.EINVAL) from None
