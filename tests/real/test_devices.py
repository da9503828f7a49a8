# SPDX-License-Identifier: MIT
"""Disks and networks of a Linux guest that pyxc launches, served by dom0's kernel."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ground_truth
import pytest
from builds import PATIENCE_S, Launch, in_use
from ground_truth import Peer

import pyxc
from pyxc import ShutdownReason
from pyxc.guest.built import BuiltDomain
from pyxc.guest.devices import Devices, State

pytestmark = pytest.mark.needs_xen(4, 10)
LINUX_PATIENCE_S = 240
BRIDGE = "pyxcbr0"
ADD_BRIDGE, REMOVE_BRIDGE = 0x89A0, 0x89A1
SECTOR = 512
DISK_BYTES = 1 << 20
GUEST = ("vcpus=1", "maxvcpus=2", "cmdline=console=hvc0 quiet -- devices")
INTERFACES = Path("/sys/class/net")


@pytest.fixture
def bridge() -> Iterator[str]:
    """A bridge of dom0, which has the address 10.0.0.1 there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, ADD_BRIDGE, BRIDGE.encode())
        subprocess.run(["ifconfig", BRIDGE, "10.0.0.1", "netmask", "255.255.255.0", "up"], check=True)
        yield BRIDGE
        subprocess.run(["ifconfig", BRIDGE, "down"], check=True)
        fcntl.ioctl(control, REMOVE_BRIDGE, BRIDGE.encode())


def disk(directory: Path, name: str) -> Path:
    """A file whose first sector has its name."""
    file = directory / name
    file.write_bytes(name.encode().ljust(16, b"."))
    os.truncate(file, DISK_BYTES)
    return file


def loops() -> list[str]:
    """The files behind loop devices."""
    found = Path("/sys/block").glob("loop*/loop/backing_file")
    return sorted(path.read_text().strip() for path in found)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in {PATIENCE_S} s"
        time.sleep(0.1)


def left_in_dom0() -> tuple[object, ...]:
    """What guests have of dom0's kernel and of this process."""
    devices = sorted(path.name for path in Path("/sys/bus/xen-backend/devices").glob("v*"))
    return loops(), sorted(os.listdir(INTERFACES)), devices, in_use()


def ping(address: str) -> None:
    subprocess.run(["ping", "-c", "1", "-W", "20", address], check=True, capture_output=True)


def expect(guest: BuiltDomain, *texts: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until it has printed all of them, in any order."""
    missing = set(texts)
    while missing:
        found = guest.console.expect("|".join(map(re.escape, missing)), timeout=patience_s)
        missing.remove(found[0].decode())


@pytest.fixture
def untouched(peer: Peer, bridge: str) -> Iterator[None]:
    """A test whose guests leave nothing, once its handles are closed."""
    ground_truth.crashes()  # opens the kernel's log
    before = left_in_dom0()
    yield
    wait_until(lambda: left_in_dom0() == before, f"{left_in_dom0()} is as {before}")


@pytest.mark.usefixtures("untouched")
def test_a_guest_with_a_disk_and_a_network(launched: Launch, named: pyxc.Xen, tmp_path: Path) -> None:
    file = disk(tmp_path, "first")
    guest = launched("linux", *GUEST, f"disk=['{file},raw,xvda,rw']", f"vif=['bridge={BRIDGE}']")
    assert loops() == [str(file)]
    guest.unpause()
    expect(guest, "xvda says first........... and is copied", "eth0 is up", patience_s=LINUX_PATIENCE_S)
    assert file.read_bytes()[SECTOR : SECTOR + 16] == b"first..........."
    ping("10.0.0.2")
    assert {device.state for device in Devices(guest)} == {State.CONNECTED}

    guest.ask.set_vcpus(2)
    expect(guest, "cpu1/online is online")
    wait_until(lambda: guest.info().nr_online_vcpus == 2, "the second vcpu is online")
    guest.ask.set_memory(120 << 10, timeout=PATIENCE_S)
    assert abs(guest.info().memory_kb - (120 << 10)) <= 1024

    guest.ask.poweroff(timeout=PATIENCE_S)
    assert guest.wait_shut_down(timeout=PATIENCE_S) is ShutdownReason.POWEROFF
    guest.console.close()
    guest.destroy()
    wait_until(lambda: loops() == [], "the loop device has gone")


@pytest.mark.usefixtures("untouched")
def test_devices_of_a_running_guest(
    launched: Launch, named: pyxc.Xen, tmp_path: Path, pyxc_command: ground_truth.Command
) -> None:
    guest = launched("linux", "name=plugged", *GUEST)
    first, second = disk(tmp_path, "first"), disk(tmp_path, "second")
    guest.unpause()
    expect(guest, "guest is up", patience_s=LINUX_PATIENCE_S)
    pyxc_command("block-attach", "plugged", f"{first},raw,xvdb,rw")
    pyxc_command("block-attach", "plugged", f"{second},raw,xvdc,r")
    pyxc_command("network-attach", "plugged", f"bridge={BRIDGE}", "mac=00:16:3e:01:02:03")
    copied, kept = "xvdb says first........... and is copied", "xvdc says second.......... and is read-only"
    expect(guest, copied, kept, "eth0 is up")
    ping("10.0.0.2")
    rows = pyxc_command("block-list", "plugged").stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["51728", "51744"]
    assert "00:16:3e:01:02:03" in pyxc_command("network-list", "plugged").stdout

    pyxc_command("block-detach", "plugged", "xvdb")
    expect(guest, "xvdb has gone")
    pyxc_command("network-detach", "plugged", "0")
    expect(guest, "eth0 has gone")
    wait_until(lambda: loops() == [str(second)], "the loop device has gone")
    assert len(list(Devices(guest))) == 1
    guest.console.close()
    pyxc_command("destroy", "plugged")
    assert not guest.exists()


@pytest.mark.usefixtures("untouched")
def test_a_saved_guest_has_its_devices_again(launched: Launch, named: pyxc.Xen, tmp_path: Path) -> None:
    """Its kernel connects to the new back ends, and goes on to use them."""
    file, saved = disk(tmp_path, "first"), tmp_path / "saved"
    guest = launched("linux", *GUEST, f"disk=['{file},raw,xvda,rw']", f"vif=['bridge={BRIDGE}']")
    guest.unpause()
    expect(guest, "xvda says first........... and is copied", "eth0 is up", patience_s=LINUX_PATIENCE_S)
    guest.save(saved, live=True, provenance="none")
    guest.console.close()
    guest.destroy()
    wait_until(lambda: loops() == [], "the loop device has gone")
    again = named.restore(saved)
    try:
        assert loops() == [str(file)]
        connected = {State.CONNECTED}
        wait_until(lambda: {device.state for device in Devices(again)} == connected, "both are connected")
        assert len(list(Devices(again))) == 2
        wait_until(lambda: answers("10.0.0.2"), "its network answers")
    finally:
        again.destroy()
    wait_until(lambda: loops() == [], "the loop device has gone")


def answers(address: str) -> bool:
    return subprocess.run(["ping", "-c", "1", "-W", "5", address], capture_output=True).returncode == 0
