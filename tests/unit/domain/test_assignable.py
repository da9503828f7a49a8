# SPDX-License-Identifier: MIT
"""Giving PCI devices to xen-pciback and back, with the files of a kernel that reacts as Linux does."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts import Boot, Host

from pyxc import errors
from pyxc.abi import domctl_pci
from pyxc.abi.domid import DOMID_IO
from pyxc.domain import assignable
from pyxc.domain.assignable import Write

CARD, SBDF = "0000:03:00.0", 0x0300
NODES = "/libxl/pci/0000-03-00-0"


class Kernel:
    """sysfs with one PCI device, whose driver is e1000e. It can refuse a write."""

    def __init__(self, root: Path) -> None:
        self.pci = root / "sys/bus/pci"
        self.link = self.pci / "devices" / CARD / "driver"
        self.link.parent.mkdir(parents=True)
        for driver in ("e1000e", "pciback"):
            (self.pci / "drivers" / driver).mkdir(parents=True)
        self.slots = self.pci / "drivers/pciback/slots"
        self.slots.write_text("")
        self.link.symlink_to(self.pci / "drivers/e1000e")
        self.refused: tuple[str, BaseException] | None = None
        self.written: list[str] = []

    @property
    def driver(self) -> str | None:
        return self.link.readlink().name if self.link.is_symlink() else None

    @property
    def state(self) -> tuple[str | None, str]:
        return self.driver, self.slots.read_text()

    def write(self, write: Write) -> None:
        path = Path(write.path)
        if self.refused and self.refused[0] == f"{path.parent.name}/{path.name}":
            error = self.refused[1]
            self.refused = None
            raise error
        self.written.append(f"{path.parent.name}/{path.name}")
        if path.name == "unbind":
            assert self.driver == path.parent.name
            self.link.unlink()
        elif path.name == "bind":
            assert self.driver is None
            self.link.symlink_to(path.parent)
            place = self.pci / "drivers/pciback" / CARD
            if path.parent.name == "pciback":
                place.mkdir()
        elif path.name == "new_slot":
            self.slots.write_text(f"{write.address}\n")
        else:
            self.slots.write_text("")
        if self.driver != "pciback" and (self.pci / "drivers/pciback" / CARD).exists():
            (self.pci / "drivers/pciback" / CARD).rmdir()


@pytest.fixture
def host(boot: Boot, tmp_path: Path) -> Host:
    found = boot("sim:xen-4.17-pci")
    found.truth.kernel_files = str(tmp_path)
    return found


@pytest.fixture
def kernel(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(tmp_path)
    monkeypatch.setattr(assignable, "_carry_out", made.write)
    return made


def test_a_device_comes_and_goes(host: Host, kernel: Kernel) -> None:
    devices = host.xen.assignable_devices
    planned = [write.path.removeprefix(f"{kernel.pci}/drivers/") for write in devices.plan_add("03:00.0")]
    devices.add("03:00.0", "card")
    assert kernel.written == planned == ["e1000e/unbind", "pciback/new_slot", "pciback/bind"]
    assert (kernel.state, host.truth.pci[SBDF]) == (("pciback", f"{CARD}\n"), DOMID_IO)
    assert [str(device) for device in devices.all()] == [CARD]
    assert (devices.name(CARD), devices.named("card")) == ("card", devices.all()[0])
    devices.add(CARD, "other")
    assert (devices.plan_add(CARD), devices.name(CARD)) == ([], "other")
    devices.remove(CARD, rebind=True)
    assert kernel.written[3:] == ["pciback/unbind", "pciback/remove_slot", "e1000e/bind"]
    assert (kernel.state, host.truth.pci[SBDF], devices.name(CARD)) == (("e1000e", ""), 0, None)
    assert host.xen.store.read(f"{NODES}/driver_path") is None


def test_without_rebinding_its_driver_remains_known(host: Host, kernel: Kernel) -> None:
    devices = host.xen.assignable_devices
    devices.add(CARD)
    devices.remove(CARD)
    assert kernel.driver is None
    assert (host.xen.store.read(f"{NODES}/driver_path") or b"").endswith(b"/e1000e")
    devices.add(CARD)
    devices.remove(CARD, rebind=True)
    assert kernel.state == ("e1000e", "")


def test_a_quarantined_device_can_be_given_to_a_guest_and_is_then_not_removed(
    host: Host, kernel: Kernel
) -> None:
    host.xen.assignable_devices.add(CARD)
    guest = host.xen.domains.create(hvm=True, hap=True, iommu=True)
    guest.pci.assign(CARD)
    assert host.truth.pci[SBDF] == guest.domid
    with pytest.raises(errors.HypercallError) as refused:
        host.xen.assignable_devices.remove(CARD)
    assert (refused.value.errno, kernel.driver) == (errno.ENODEV, "pciback")
    host.xen.store.write(f"/local/domain/0/backend/pci/{guest.domid}/0/dev-0", CARD)
    with pytest.raises(OSError, match="a guest has this PCI device"):
        host.xen.assignable_devices.remove(CARD)
    assert (kernel.driver, host.truth.pci[SBDF]) == ("pciback", guest.domid)


FAULTS = ["e1000e/unbind", "pciback/new_slot", "pciback/bind", "hypercall"]


@pytest.mark.parametrize("place", FAULTS)
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_an_error_while_adding_leaves_all_as_it_was(
    host: Host, kernel: Kernel, place: str, kind: Callable[..., BaseException]
) -> None:
    before = kernel.state, dict(host.truth.pci)
    kernel.refused = (place, kind(errno.EIO, "no"))
    if place == "hypercall":
        host.link.fail(domctl_pci.ASSIGN_DEVICE, errno.EBUSY)
    with pytest.raises((OSError, KeyboardInterrupt)):
        host.xen.assignable_devices.add(CARD, "card")
    assert (kernel.state, dict(host.truth.pci)) == before
    assert (host.xen.store.list("/libxl/pci/0000-03-00-0") or []) == []


@pytest.mark.parametrize("place", ["pciback/unbind", "pciback/remove_slot", "e1000e/bind"])
def test_an_error_while_removing_leaves_all_as_it_was(host: Host, kernel: Kernel, place: str) -> None:
    devices = host.xen.assignable_devices
    devices.add(CARD, "card")
    before = kernel.state, dict(host.truth.pci)
    kernel.refused = (place, OSError(errno.EIO, "no"))
    with pytest.raises(OSError, match="no"):
        devices.remove(CARD, rebind=True)
    assert (kernel.state, dict(host.truth.pci), devices.name(CARD)) == (*before, "card")


@pytest.mark.parametrize("noted", ["/tmp/evil", "{root}/../../etc", "{root}/x/y", ""])
def test_only_a_driver_of_the_kernel_gets_a_device(host: Host, kernel: Kernel, noted: str) -> None:
    host.xen.assignable_devices.add(CARD)
    host.xen.store.write(f"{NODES}/driver_path", noted.format(root=kernel.pci / "drivers"))
    host.xen.assignable_devices.remove(CARD, rebind=True)
    assert kernel.driver is None


def test_without_an_iommu_there_is_no_quarantine(
    boot: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, kernel = boot("4.17"), Kernel(tmp_path)
    host.truth.kernel_files = str(tmp_path)
    monkeypatch.setattr(assignable, "_carry_out", kernel.write)
    host.xen.assignable_devices.add(CARD)
    assert kernel.driver == "pciback"


def test_what_cannot_be(host: Host, kernel: Kernel, boot: Boot) -> None:
    devices = host.xen.assignable_devices
    with pytest.raises(OSError, match="dom0 has no such PCI device") as missing:
        devices.add("04:00.0")
    assert missing.value.errno == errno.ENODEV
    with pytest.raises(ValueError, match="printable characters"):
        devices.add(CARD, "two words")
    kernel.slots.unlink()
    kernel.slots.parent.rmdir()
    with pytest.raises(errors.Unsupported, match="no xen-pciback"):
        devices.add(CARD)
    with pytest.raises(errors.Unsupported, match="no files of a kernel"):
        boot("4.17").xen.assignable_devices.add(CARD)
    with pytest.raises(errors.ReadOnlyError):
        boot("4.17", readonly=True).xen.assignable_devices.add(CARD)
