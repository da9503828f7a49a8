# SPDX-License-Identifier: MIT
"""Disks and network interfaces: the handshake, and guests and kernels that do not take part in it."""

from __future__ import annotations

import errno
import re

import pytest
from hosts import Host

from pyxc import Permission, StoreError, errors
from pyxc.guest.config_devices import Disk, Vif
from pyxc.guest.devices import Devices, State, new_mac

DATA = Disk.parse("phy:/dev/vg/data,xvdb,w")
BACK, FRONT = "/local/domain/0/backend/vbd/1/51728", "/local/domain/1/device/vbd/51728"


@pytest.fixture
def devices(host: Host) -> Devices:
    host.truth.serve_devices()
    return Devices(host.xen.domains["web1"])


def test_a_disk_is_attached_used_and_detached(host: Host, devices: Devices) -> None:
    assert devices.attach_disk(DATA) == 51728
    assert host.xen.store.read(f"{BACK}/physical-device") == b"7:0"
    assert host.xen.store.read(f"{BACK}/mode") == b"w"
    assert host.xen.store.read(f"{FRONT}/virtual-device") == b"51728"
    assert [device.state for device in devices] == [State.INITIALISING]
    host.truth.script(1).use("vbd", 51728)
    (device,) = devices.list("vbd")
    assert (device.state, device.event_channel, device.ring_refs) == (State.CONNECTED, "9", ("8",))
    assert (device.target, device.backend) == ("/dev/vg/data", BACK)
    assert host.xen.store.read(f"{BACK}/state") == b"4"
    devices.detach("vbd", 51728)
    assert list(devices) == []
    assert [host.xen.store.read(path) for path in (FRONT, BACK, "/libxl/1/device/vbd/51728")] == [None] * 3


def test_who_may_write_what(host: Host, devices: Devices) -> None:
    devices.attach_disk(DATA)
    guest = host.truth.script(1)
    guest.write(f"{FRONT}/ring-ref", "1")
    assert guest.read(f"{BACK}/state") == "2"
    for path in (f"{BACK}/state", f"{BACK}/physical-device", f"{BACK}/params"):
        with pytest.raises(StoreError):
            guest.write(path, "1")
    assert host.xen.store.permissions(BACK) == (Permission.parse("n0"), Permission.parse("r1"))


def test_a_disk_that_the_guest_has_already(devices: Devices) -> None:
    devices.attach_disk(DATA)
    with pytest.raises(FileExistsError, match="already has the vbd 51728"):
        devices.attach_disk(DATA)
    assert len(devices.list("vbd")) == 1, "the first one stays"


def test_a_guest_that_does_not_let_go(host: Host, devices: Devices) -> None:
    devices.attach_disk(DATA)
    host.truth.script(1).use("vbd", 51728, stubborn=True)
    with pytest.raises(errors.GuestSilent, match="has not let go of vbd 51728 within 0.05 s"):
        devices.detach("vbd", 51728, timeout=0.05)
    assert len(devices.list("vbd")) == 1
    devices.detach("vbd", 51728, force=True)
    assert list(devices) == []


def test_a_guest_of_xl_that_is_destroyed(host: Host, devices: Devices) -> None:
    """Its back ends hold its memory: only the nodes that matter to them go."""
    devices.attach_disk(DATA)
    host.xen.store.write("/libxl/1/type", "pv")
    uuid = host.xen.domains[1].uuid
    host.xen.store.write("/local/domain/1/vm", f"/vm/{uuid}")
    host.xen.domains[1].destroy()
    assert host.xen.store.read(BACK) is None
    assert host.xen.store.read("/libxl/1/type") == b"pv"


def test_a_kernel_without_the_driver(host: Host) -> None:
    devices = Devices(host.xen.domains["web1"])
    with pytest.raises(TimeoutError, match="is xen-blkback loaded"):
        devices.attach_disk(DATA, timeout=0.05)
    assert host.xen.store.read(BACK) is None
    assert host.xen.store.read(FRONT) is None


def test_network_interfaces(host: Host, devices: Devices) -> None:
    assert devices.attach_vif(Vif("00:16:3e:01:02:03", "br1")) == 0
    assert devices.attach_vif(Vif()) == 1
    first, second = devices.list("vif")
    assert first.mac == "00:16:3e:01:02:03"
    assert re.fullmatch("00:16:3e(:[0-9a-f]{2}){3}", second.mac)
    assert host.xen.store.read(f"{first.backend}/hotplug-status") == b"connected"
    assert host.xen.store.read(f"{first.backend}/bridge") == b"br1"
    assert host.xen.store.read(f"{first.backend}/script"), "xen-netback serves no interface without one"
    devices.detach("vif", 0)
    assert devices.attach_vif(Vif()) == 0
    assert new_mac() != new_mac()


def test_what_is_not_there_cannot_be_detached(devices: Devices) -> None:
    with pytest.raises(KeyError, match="has no vbd 5"):
        devices.detach("vbd", 5)


@pytest.mark.parametrize("text", ["", "x", "99", "-1", "4\x1b[1m", "4" * 100])
def test_a_guest_that_writes_nonsense(host: Host, devices: Devices, text: str) -> None:
    devices.attach_disk(DATA)
    guest = host.truth.script(1)
    for name in ("state", "event-channel", "ring-ref"):
        guest.write(f"{FRONT}/{name}", text)
    (device,) = devices.list("vbd")
    assert device.state is State.UNKNOWN
    assert device.event_channel.isprintable() or not device.event_channel
    assert len(device.event_channel) <= 80


def test_a_domain_that_has_gone_gets_nothing(host: Host, devices: Devices) -> None:
    host.truth.kill(host.truth.domains[1])
    with pytest.raises(errors.DomainNotFound):
        devices.attach_disk(DATA)
    assert host.xen.store.read(BACK) is None


def test_a_failure_leaves_nothing(host: Host, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise StoreError(errno.EIO, "broken")

    monkeypatch.setattr(devices, "_join", fail)
    with pytest.raises(StoreError):
        devices.attach_vif(Vif())
    assert list(devices) == []
    assert host.xen.store.read("/local/domain/1/device/vif/0") is None
