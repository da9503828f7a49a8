# SPDX-License-Identifier: MIT
"""Counters of guests' disks and networks, from the backend drivers in this domain's kernel.

Xen does not see the traffic of disks and networks, but the backend drivers do. Linux shows their counters in
sysfs (Documentation/ABI/stable/sysfs-bus-xen-backend). A driver domain serves devices, too; its counters are
in its own kernel.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

SECTOR_BYTES = 512
_DEVICES = "sys/bus/xen-backend/devices"
_INTERFACES = "sys/class/net"
_NAME = re.compile(r"(vbd|tap|vif)-([0-9]{1,5})-([0-9]{1,10})")
_VIF = re.compile(r"vif([0-9]{1,5})\.([0-9]{1,10})")
_DIGITS_MOST = 20
_XVD_MAJOR = 202
_EXTENDED = 1 << 28


class DiskCounters(NamedTuple):
    """Counters of a guest's virtual disk since it was attached, from the guest's side.

    `device` is its number in xenstore, 51712 for xvda. `ring_full` counts requests that had to wait for
    memory of the backend. Sectors have 512 bytes. Threads: safe to share.

    Example:

    >>> pyxc.DiskCounters(1, 51712, 10, 0, 0, 0, 0, 80, 0).name
    'xvda'
    """

    domid: int
    device: int
    read_requests: int
    write_requests: int
    flush_requests: int
    discard_requests: int
    ring_full: int
    read_sectors: int
    write_sectors: int

    @property
    def name(self) -> str:
        """Its name in Linux and xl.cfg, "xvda1"; its number if it has no such name."""
        return disk_name(self.device)

    @property
    def read_bytes(self) -> int:
        return self.read_sectors * SECTOR_BYTES

    @property
    def write_bytes(self) -> int:
        return self.write_sectors * SECTOR_BYTES


class NetworkCounters(NamedTuple):
    """Counters of a guest's virtual network interface since it was attached, from the guest's side.

    The guest receives what the backend transmits. `device` is its number in xenstore, `interface` the name of
    the backend's interface. Threads: safe to share.

    Example:

    >>> [network.interface for network in xen.sample().networks or ()]
    []
    """

    domid: int
    device: int
    interface: str
    receive_bytes: int
    receive_packets: int
    receive_errors: int
    receive_drops: int
    transmit_bytes: int
    transmit_packets: int
    transmit_errors: int
    transmit_drops: int


_DISK_FILES = ("rd_req", "wr_req", "f_req", "ds_req", "oo_req", "rd_sect", "wr_sect")
_NET_FILES = (
    "tx_bytes", "tx_packets", "tx_errors", "tx_dropped", "rx_bytes", "rx_packets", "rx_errors", "rx_dropped"
)  # fmt: skip
"""The backend's counters, with both directions swapped."""


def disks(root: str) -> list[DiskCounters]:
    """All virtual disks that the kernel below `root` ("/") serves, by domain and device; possibly none."""
    found = []
    for kind, domid, device, path in _devices(root):
        counters = _counters(f"{path}/statistics", _DISK_FILES) if kind != "vif" else None
        if counters is not None:
            found.append(DiskCounters(domid, device, *counters))
    return sorted(found)


def networks(root: str) -> list[NetworkCounters]:
    """All virtual network interfaces that the kernel below `root` serves, whatever their names.

    If the kernel's drivers do not link interfaces to devices, interfaces are recognised by names like vif3.0.
    """
    places = {
        (domid, device): f"{path}/net/{name}"
        for kind, domid, device, path in _devices(root)
        if kind == "vif"
        for name in _listed(f"{path}/net")
    }
    for name in _listed(f"{root}/{_INTERFACES}"):
        match = _VIF.fullmatch(name)
        if match:
            places.setdefault((int(match[1]), int(match[2])), f"{root}/{_INTERFACES}/{name}")
    found = []
    for (domid, device), path in sorted(places.items()):
        counters = _counters(f"{path}/statistics", _NET_FILES)
        if counters is not None:
            found.append(NetworkCounters(domid, device, os.path.basename(path), *counters))
    return found


def disk_name(device: int) -> str:
    """The name for a virtual disk's number: 51712 is xvda, 51713 xvda1 (docs/man/xen-vbd-interface.7)."""
    if device & _EXTENDED:
        disk, partition = device >> 8 & 0xFFFFF, device & 0xFF
    elif device >> 8 == _XVD_MAJOR:
        disk, partition = device >> 4 & 0xF, device & 0xF
    else:
        return str(device)
    letters = ""
    while disk >= 0:
        letters = chr(ord("a") + disk % 26) + letters
        disk = disk // 26 - 1
    return f"xvd{letters}{partition or ''}"


def _devices(root: str) -> Iterator[tuple[str, int, int, str]]:
    """Backend devices: kind, domain, number, directory."""
    for name in _listed(f"{root}/{_DEVICES}"):
        match = _NAME.fullmatch(name)
        if match:
            yield match[1], int(match[2]), int(match[3]), f"{root}/{_DEVICES}/{name}"


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _counters(directory: str, names: tuple[str, ...]) -> list[int] | None:
    """A number from each file, 0 if this kernel does not have the file; None for a device that has gone."""
    found = [_counter(f"{directory}/{name}") for name in names]
    return None if all(value is None for value in found) else [value or 0 for value in found]


def _counter(path: str) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, _DIGITS_MOST + 2).strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return int(text) if text.isdigit() and len(text) <= _DIGITS_MOST else None
