# SPDX-License-Identifier: MIT
"""Disks and network interfaces of a guest, served by the drivers of dom0's kernel: xen-blkback, xen-netback.

Each end of a device is a directory in xenstore, where its driver reports its progress in `state`
(public/io/xenbus.h). A toolstack creates the directories, and hands the device itself to the back end.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import IntEnum
from functools import partial
from typing import Literal, NamedTuple

from pyxc import errors, undoing
from pyxc.domain.identity import Identity
from pyxc.guest import bridge
from pyxc.guest.config_devices import Disk, Vif
from pyxc.guest.loop import BlockDevice
from pyxc.guest.remains import BACKEND, home
from pyxc.store.transaction import Transaction

Kind = Literal["vbd", "vif"]
_PATIENCE_S = 10.0
_LOOK_S = 0.02
_VIFS_MOST = 256
_DRIVERS: dict[Kind, str] = {"vbd": "xen-blkback", "vif": "xen-netback"}
_SCRIPT = "/bin/true"
"""The hotplug script, without which xen-netback serves no interface. It has nothing to do."""
_SIMULATED = (7, 0)
"""The device behind each disk of a simulated host, whose kernel has no devices."""


class State(IntEnum):
    """The state of one end of a device (enum xenbus_state)."""

    UNKNOWN = 0
    INITIALISING = 1
    INIT_WAIT = 2
    INITIALISED = 3
    CONNECTED = 4
    CLOSING = 5
    CLOSED = 6
    RECONFIGURING = 7
    RECONFIGURED = 8


class Device(NamedTuple):
    """One device as xenstore has it; `state` is that of the guest's end. Text may be from the guest."""

    kind: Kind
    number: int
    state: State
    event_channel: str
    ring_refs: tuple[str, ...]
    mac: str
    target: str
    backend: str


class Devices:
    """The disks and network interfaces of one guest. Threads: one at a time.

    Example:

    >>> drivers = hypervisor.serve_devices()     # the drivers of a simulated dom0
    >>> Devices(web).attach_disk(Disk.parse("phy:/dev/vg/data,xvdb,w"))
    51728
    """

    def __init__(self, domain: Identity) -> None:
        self._domain = domain
        self._store = domain.xen.store

    def attach_disk(self, disk: Disk, timeout: float = _PATIENCE_S) -> int:
        """Attach a disk; returns its number. OSError EEXIST: it has such a disk; ETIMEDOUT: no back end."""
        with ExitStack() as stack:
            number = _SIMULATED if self._simulated else stack.enter_context(_opened(disk)).number
            fields = {
                "params": disk.target,
                "physical-device": f"{number[0]:x}:{number[1]:x}",
                "type": "phy",
                "mode": "w" if disk.writable else "r",
                "dev": disk.vdev,
                "device-type": "disk",
                "removable": "0",
                "bootable": "1",
            }
            front = {"virtual-device": str(disk.number), "device-type": "disk"}
            ready = partial(self._opened_by_backend, disk.number)
            self._attach("vbd", disk.number, front, fields, timeout, ready)
        return disk.number

    def attach_vif(self, vif: Vif, timeout: float = _PATIENCE_S) -> int:
        """Attach a network interface, whose end in dom0 joins a bridge; returns its number."""
        if not self._simulated:
            bridge.check(vif.bridge)
        number = self._free_vif()
        mac = vif.mac or new_mac()
        fields = {"mac": mac, "bridge": vif.bridge, "handle": str(number), "type": "vif", "script": _SCRIPT}
        if vif.vifname is not None:
            fields["vifname"] = vif.vifname
        front = {"mac": mac, "handle": str(number), "mtu": "1500"}
        interface = f"vif{self._domain.domid}.{number}"
        ready = partial(self._has_interface, interface)
        join = partial(self._join, interface, vif, number)
        self._attach("vif", number, front, fields, timeout, ready, join)
        return number

    def _has_interface(self, name: str) -> bool:
        return self._simulated or bridge.exists(name)

    def _join(self, interface: str, vif: Vif, number: int) -> None:
        if not self._simulated:
            bridge.join(interface, vif.bridge, vif.vifname)
        self._store.write(f"{self._back('vif', number)}/hotplug-status", "connected")

    @property
    def _simulated(self) -> bool:
        return self._domain.xen.link.target.startswith("sim:")

    def _opened_by_backend(self, number: int) -> bool:
        """Whether blkback has opened the block device: a loop device disappears if nothing has it open."""
        if self._simulated:
            return True
        device = f"vbd-{self._domain.domid}-{number}"
        return os.path.exists(f"/sys/bus/xen-backend/devices/{device}/physical_device")

    def _attach(
        self,
        kind: Kind,
        number: int,
        front: dict[str, str],
        back: dict[str, str],
        timeout: float,
        ready: Callable[[], bool],
        then: Callable[[], object] = lambda: None,
    ) -> None:
        """Create both ends and wait for the back end. All or nothing."""
        self._domain.info()
        text = f"a part of {kind} {number} of domain {self._domain.domid} is left"
        token = _token()
        with undoing.on_failure(lambda: self._take_back(kind, number, token), text):
            self._store.transact(partial(self._lay, kind, number, front, back, token))
            path = f"{self._back(kind, number)}/state"
            deadline = time.monotonic() + timeout
            while self._state(path) < State.INIT_WAIT or not ready():
                if time.monotonic() >= deadline:
                    problem = f"dom0's kernel does not serve {kind} {number}: is {_DRIVERS[kind]} loaded?"
                    raise TimeoutError(errno.ETIMEDOUT, problem)
                time.sleep(_LOOK_S)
            then()

    def _lay(
        self,
        kind: Kind,
        number: int,
        front: dict[str, str],
        back: dict[str, str],
        token: str,
        store: Transaction,
    ) -> None:
        """FileExistsError if there is already such a device. `token` distinguishes this one from others."""
        domid, ours, theirs = self._domain.domid, self._front(kind, number), self._back(kind, number)
        if store.read(ours) is not None or store.read(theirs) is not None:
            raise FileExistsError(errno.EEXIST, f"the guest already has the {kind} {number}")
        for path, permissions in ((ours, (f"n{domid}", "r0")), (theirs, ("n0", f"r{domid}"))):
            store.mkdir(path)
            store.set_permissions(path, permissions)
        fields = {"backend": theirs, "backend-id": "0", "state": "1"}
        for name, value in {**front, **fields}.items():
            store.write(f"{ours}/{name}", value)
            store.set_permissions(f"{ours}/{name}", (f"n{domid}", "r0"))
        fields = {"frontend": ours, "frontend-id": str(domid), "online": "1", "state": "1"}
        for name, value in {**back, **fields}.items():
            store.write(f"{theirs}/{name}", value)
        fields = {"frontend": ours, "backend": theirs, "frontend-id": str(domid), "pyxc": token}
        for name, value in {**back, **fields}.items():
            store.write(f"{self._libxl(kind, number)}/{name}", value)

    def detach(self, kind: Kind, number: int, *, timeout: float = _PATIENCE_S, force: bool = False) -> None:
        """Detach a device, after the guest has released it. KeyError for one that it does not have.

        GuestSilent if the guest does not release it within `timeout` seconds, for example a mounted disk:
        the request remains. `force` detaches it at once.
        """
        back = self._back(kind, number)
        if self._store.read(back) is None:
            raise KeyError(f"domain {self._domain.domid} has no {kind} {number}")
        self._domain.info()

        def close(transaction: Transaction) -> None:
            transaction.write(f"{back}/online", "0")
            transaction.write(f"{back}/state", str(int(State.CLOSING)))

        if not force:
            self._store.transact(close)
            self._wait_closed(kind, number, timeout)
        self._remove(kind, number)

    def _wait_closed(self, kind: Kind, number: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self._state(f"{self._back(kind, number)}/state") not in (State.CLOSED, State.UNKNOWN):
            if time.monotonic() >= deadline:
                who = f"the guest of domain {self._domain.domid}"
                raise errors.GuestSilent(f"{who} has not let go of {kind} {number} within {timeout:g} s")
            time.sleep(_LOOK_S)

    def _take_back(self, kind: Kind, number: int, token: str) -> None:
        self._store.renew()  # the step may have failed because the connection ended
        self._remove(kind, number, token)

    def _remove(self, kind: Kind, number: int, token: str | None = None) -> None:
        """Remove both ends; with a token only if they were created with that."""

        def clear(transaction: Transaction) -> None:
            made = transaction.read(f"{self._libxl(kind, number)}/pyxc") or b""
            if token is not None and made != token.encode():
                return
            for path in (self._front(kind, number), self._back(kind, number), self._libxl(kind, number)):
                transaction.remove(path)

        self._store.transact(clear)

    def list(self, kind: Kind) -> list[Device]:
        """All devices of the guest, in the order of their numbers."""
        names = self._store.list(f"{BACKEND}/{kind}/{self._domain.domid}") or []
        numbers = sorted(int(name) for name in names if name.isdigit())
        return [self._device(kind, number) for number in numbers]

    def _device(self, kind: Kind, number: int) -> Device:
        front, back = self._front(kind, number), self._back(kind, number)
        refs = ("ring-ref",) if kind == "vbd" else ("tx-ring-ref", "rx-ring-ref")
        return Device(
            kind,
            number,
            self._state(f"{front}/state"),
            self._text(f"{front}/event-channel"),
            tuple(self._text(f"{front}/{name}") for name in refs),
            self._text(f"{back}/mac"),
            self._text(f"{back}/params"),
            back,
        )

    def _text(self, path: str) -> str:
        """The value of a node, safe to display: the guest may have written anything."""
        text = (self._store.read(path) or b"").decode("ascii", "replace")
        return text[:80] if text.isprintable() else ""

    def _state(self, path: str) -> State:
        try:
            return State(int(self._text(path)))
        except ValueError:
            return State.UNKNOWN

    def _free_vif(self) -> int:
        used = {device.number for device in self.list("vif")}
        for number in range(_VIFS_MOST):
            if number not in used:
                return number
        raise OSError(errno.ENOSPC, f"the guest has {_VIFS_MOST} network interfaces")

    def _front(self, kind: Kind, number: int) -> str:
        return f"{home(self._domain.domid)}/device/{kind}/{number}"

    def _back(self, kind: Kind, number: int) -> str:
        return f"{BACKEND}/{kind}/{self._domain.domid}/{number}"

    def _libxl(self, kind: Kind, number: int) -> str:
        return f"/libxl/{self._domain.domid}/device/{kind}/{number}"

    def __iter__(self) -> Iterator[Device]:
        return iter([*self.list("vbd"), *self.list("vif")])


def _opened(disk: Disk) -> BlockDevice:
    return BlockDevice(disk.target, disk.writable)


def _token() -> str:
    return os.urandom(8).hex()


def new_mac() -> str:
    """A random address of Xen's own range, 00:16:3e."""
    return f"00:16:3e:{os.urandom(3).hex(':')}"
