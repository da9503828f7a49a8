# SPDX-License-Identifier: MIT
"""PCI devices that guests may be given: those that dom0's xen-pciback holds."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pyxc import errors, undoing
from pyxc.abi import domctl_pci as operations
from pyxc.abi.domid import DOMID_IO
from pyxc.abi.operation import Operation
from pyxc.domain.pci import PciAddress, device_address, device_fields, relaxed_fields
from pyxc.host.host import Host

_DEVICES = "sys/bus/pci/devices"
_DRIVERS = "sys/bus/pci/drivers"
_PCIBACK = f"{_DRIVERS}/pciback"
_NODES = "/libxl/pci"
"""Where xl keeps the driver and the name of each device."""
_BACKENDS = "/local/domain/0/backend/pci"
_NAME = re.compile(r"[!-~]{1,64}")
_QUARANTINE = (4, 13)
"""Since when a device that nobody uses belongs to Xen's domain for I/O, where its DMA goes nowhere."""
_DEVICES_MOST = 256
_PURPOSE = "giving a PCI device to another driver"


class Write(NamedTuple):
    """A write of a device's address to a file of the kernel."""

    path: str
    address: str

    def __str__(self) -> str:
        return f"echo {self.address} > {self.path}"


class AssignableDevices:
    """The PCI devices that guests may be given, by the files of dom0's kernel and the nodes that xl uses.

    Unsupported where the kernel has no xen-pciback, and on simulated hosts without files of a kernel.
    Threads: one at a time.
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def all(self) -> list[PciAddress]:
        """Those that xen-pciback holds, whether a guest has them or not."""
        root = self._xen.link.kernel_files
        held = [] if root is None else [path.name for path in Path(root, _PCIBACK).glob("*:*")]
        return sorted(_parsed(held))

    def name(self, device: PciAddress | str) -> str | None:
        """The name that was given to it."""
        return self._read(device_address(device), "name")

    def named(self, name: str) -> PciAddress | None:
        """The device with a name."""
        return next((address for address in self.all() if self.name(address) == name), None)

    def plan_add(self, device: PciAddress | str) -> list[Write]:
        """What add() would write to the files of the kernel, in this order."""
        address = device_address(device)
        self._need_pciback()
        if not self._file(_DEVICES, str(address)).exists():
            raise OSError(errno.ENODEV, "dom0 has no such PCI device", str(address))
        driver = self._driver(address)
        if driver == self._file(_PCIBACK):
            return []
        return [
            *([] if driver is None else [Write(f"{driver}/unbind", str(address))]),
            *([] if address in self._slots() else [Write(f"{self._file(_PCIBACK)}/new_slot", str(address))]),
            Write(f"{self._file(_PCIBACK)}/bind", str(address)),
        ]

    def add(self, device: PciAddress | str, name: str | None = None) -> None:
        """Take a device from its driver in dom0 and give it to xen-pciback, with a name if one is given.

        All or nothing: after an error or an interrupt its driver has it again. ENODEV: dom0 has no such
        device. Adding it again only changes the name.
        """
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(f"name is {name!r}: expected up to 64 printable characters without spaces")
        self._xen.check_writable(_PURPOSE)
        address = device_address(device)
        writes, driver, had_slot = self.plan_add(address), self._driver(address), address in self._slots()
        before = {node: self._read(address, node) for node in ("name", "driver_path")}

        def undo() -> None:
            if writes:
                self._give_back(address, driver, had_slot)
            self._note(address, **before)

        with undoing.on_failure(undo, f"PCI device {address} may be left without its driver"):
            if writes and driver:
                self._note(address, driver_path=str(driver))
            for write in writes:
                _carry_out(write)
            self._note(address, name=name)
            self._quarantine(operations.ASSIGN_DEVICE, address)

    def plan_remove(self, device: PciAddress | str, rebind: bool = False) -> list[Write]:
        """What remove() would write to the files of the kernel, in this order."""
        address = device_address(device)
        pciback = self._need_pciback()
        writes = []
        if self._driver(address) == pciback:
            writes.append(Write(f"{pciback}/unbind", str(address)))
        if address in self._slots():
            writes.append(Write(f"{pciback}/remove_slot", str(address)))
        former = self._former_driver(address)
        if rebind and former:
            writes.append(Write(f"{former}/bind", str(address)))
        return writes

    def remove(self, device: PciAddress | str, rebind: bool = False) -> None:
        """Take a device from xen-pciback; with `rebind` its former driver gets it again.

        All or nothing. EBUSY: a guest has it.
        """
        self._xen.check_writable(_PURPOSE)
        address = device_address(device)
        if self._given(address):
            raise OSError(errno.EBUSY, "a guest has this PCI device", str(address))
        writes, name = self.plan_remove(address, rebind), self._read(address, "name")

        def undo() -> None:
            for write in self.plan_add(address):
                _carry_out(write)
            self._note(address, name=name)
            with suppress(errors.HypercallError):  # it is quarantined still, or had not been
                self._quarantine(operations.ASSIGN_DEVICE, address)

        with undoing.on_failure(undo, f"PCI device {address} may be left without a driver"):
            self._quarantine(operations.DEASSIGN_DEVICE, address)
            for write in writes:
                _carry_out(write)
            self._note(address, name=None)
        if rebind:
            self._note(address, driver_path=None)

    def _need_pciback(self) -> Path:
        """The directory of the driver."""
        driver = self._file(_PCIBACK)
        if not driver.exists():
            hint = "dom0's kernel has no xen-pciback, or its module is not loaded"
            raise errors.Unsupported(errno.EOPNOTSUPP, "pciback", hint=hint)
        return driver

    def _file(self, *parts: str) -> Path:
        root = self._xen.link.kernel_files
        if root is None:
            hint = "this host has no files of a kernel"
            raise errors.Unsupported(errno.EOPNOTSUPP, "pciback", hint=hint)
        return Path(root, *parts)

    def _driver(self, address: PciAddress) -> Path | None:
        """The driver that has a device."""
        link = self._file(_DEVICES, str(address), "driver")
        return Path(os.path.realpath(link)) if link.is_symlink() else None

    def _former_driver(self, address: PciAddress) -> Path | None:
        """The driver that xl or add() noted."""
        noted = self._read(address, "driver_path")
        if noted is None:
            return None
        driver = Path(os.path.normpath(noted))
        return driver if driver.parent == self._file(_DRIVERS) else None

    def _slots(self) -> list[PciAddress]:
        """The devices that xen-pciback is to hold."""
        with suppress(FileNotFoundError):
            return list(_parsed(self._file(_PCIBACK, "slots").read_text(encoding="ascii").split()))
        return []

    def _give_back(self, address: PciAddress, driver: Path | None, had_slot: bool) -> None:
        """Undo the writes of add(), as far as they were done."""
        pciback = self._file(_PCIBACK)
        if self._driver(address) == pciback:
            _carry_out(Write(f"{pciback}/unbind", str(address)))
        if address in self._slots() and not had_slot:
            _carry_out(Write(f"{pciback}/remove_slot", str(address)))
        if driver and self._driver(address) != driver:
            _carry_out(Write(f"{driver}/bind", str(address)))

    def _quarantine(self, operation: Operation, address: PciAddress) -> None:
        """Let Xen's domain for I/O have a device, or no longer. Without an IOMMU there is nothing to do."""
        if self._xen.interface.xen < _QUARANTINE:
            return
        fields = device_fields(self._xen, operation, address)
        if operation is operations.ASSIGN_DEVICE:
            fields |= relaxed_fields(self._xen)
        with suppress(errors.Unsupported):
            self._xen.call(operation, DOMID_IO, **fields)

    def _given(self, address: PciAddress) -> bool:
        """Whether a guest has a device."""
        store = self._xen.store
        for domid in store.list(_BACKENDS) or ():
            for index in range(_DEVICES_MOST):
                found = store.read(f"{_BACKENDS}/{domid}/0/dev-{index}")
                if found is None:
                    break
                if found.decode("ascii", "replace").lower() == str(address):
                    return True
        return False

    def _read(self, address: PciAddress, node: str) -> str | None:
        found = self._xen.store.read(f"{_place(address)}/{node}")
        return None if found is None else found.decode("utf-8", "backslashreplace")

    def _note(self, address: PciAddress, **nodes: str | None) -> None:
        """Write nodes, or remove those that are None."""
        for node, value in nodes.items():
            if value is None:
                self._xen.store.remove(f"{_place(address)}/{node}")
            else:
                self._xen.store.write(f"{_place(address)}/{node}", value)

    def __repr__(self) -> str:
        return f"<AssignableDevices of {self._xen.link.target}>"


def _place(address: PciAddress) -> str:
    return f"{_NODES}/{str(address).translate({ord(':'): '-', ord('.'): '-'})}"


def _parsed(texts: list[str]) -> Iterator[PciAddress]:
    for text in texts:
        with suppress(ValueError):
            yield PciAddress.parse(text)


def _carry_out(write: Write) -> None:
    descriptor = os.open(write.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, write.address.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, write.path) from error
    finally:
        os.close(descriptor)
