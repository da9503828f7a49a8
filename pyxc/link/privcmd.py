# SPDX-License-Identifier: MIT
"""The link to the real hypervisor: the kernel's privcmd device."""

from __future__ import annotations

import errno
import os
import struct
import sys
import time
from array import array
from collections.abc import Sequence
from functools import cached_property

from pyxc import _core
from pyxc.errors import NotXenError
from pyxc.link import Direct, Gate, grants
from pyxc.link.device import cannot_open
from pyxc.link.doors import Doors
from pyxc.link.evtchn import EvtchnDevice
from pyxc.link.exchange import exchange_buffers
from pyxc.store.channel import Channel, connect

CAPABILITIES = "/proc/xen/capabilities"


class PrivcmdLink:
    """Hypercalls through /dev/xen/privcmd or /proc/xen/privcmd. Threads: safe to share; in a
    child after fork it refuses.

    `gate`: "auto" lets a 32-bit process on a 64-bit kernel enter the kernel as 64-bit code if necessary,
    "never" forbids it (a seccomp filter that restricts the architecture kills a process that does so).
    """

    byteorder = sys.byteorder
    kernel_files: str | None = "/"

    def __init__(self, gate: Gate = "auto") -> None:
        try:
            self._device = _core.Privcmd(gate=gate)
        except OSError as error:
            raise cannot_open("privcmd", error) from error
        if self._device.probe_errno:
            refused = self._device.probe_errno
            self._device.close()
            raise _cannot_call(refused, gate)
        self.target = self._device.path
        self.kernel_bits = self._device.kernel_bits
        self.gated = self._device.gated
        self.pool = self._device.pool
        self._doors = Doors()
        self.hypercall = self._device.hypercall
        self.direct: Direct | None = self._device

    @cached_property
    def _plain_pool(self) -> _core.Pool:
        return _core.Pool(locked=False)

    @property
    def maps(self) -> list[_core.ForeignMap]:
        return self._device.maps

    def dm_op(self, domid: int, buffers: Sequence[bytes]) -> tuple[int, list[bytes]]:
        """The buffers are in ordinary memory: the kernel pins it, which it cannot do with its own."""

        def issue(count: int, address: int) -> int:
            structure = bytearray(struct.pack("=HHIQ", domid, count, 0, address))
            return self._device.ioctl("privcmd_dm_op", structure)

        return exchange_buffers(self._plain_pool, self.byteorder, buffers, issue)

    def restrict(self, domid: int) -> int:
        result = self._device.ioctl("privcmd_restrict", bytearray(struct.pack("=H", domid)))
        if result >= 0:
            self._doors.restrict(domid)
        return result

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> _core.ForeignMap:
        return self._device.map_frames(domid, frames, writable)

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> _core.ForeignMap:
        return self._device.map_resource(domid, kind, ident, first, count, writable)

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        return self._device.resource_size(domid, kind, ident)

    def map_grants(self, domid: int, refs: array[int], writable: bool = False) -> _core.ForeignMap:
        self._doors.check_grants()
        return grants.map_grants(self._device, domid, refs, writable)

    def lend_pages(
        self, domid: int, count: int, writable: bool = False
    ) -> tuple[list[int], _core.ForeignMap]:
        self._doors.check_grants()
        return grants.lend_pages(self._device, domid, count, writable)

    def open_events(self) -> EvtchnDevice:
        self._doors.check_events()
        device = EvtchnDevice(self.gated)
        self._doors.events(device)
        return device

    def connect_store(self) -> Channel:
        self._doors.check_store()
        channel = connect()
        self._doors.store(channel)
        return channel

    def clock_ns(self) -> int:
        return time.monotonic_ns()

    def close(self) -> None:
        self._device.close()
        if "_plain_pool" in self.__dict__:
            self._plain_pool.close()

    def __repr__(self) -> str:
        return f"<PrivcmdLink {self.target}{' through the 64-bit gate' if self.gated else ''}>"


def _cannot_call(number: int, gate: Gate) -> NotXenError:
    if number in (errno.EPERM, errno.EACCES):
        return NotXenError(number, f"hypercalls are refused: {_whose_domain()}")
    if number in (errno.ENOTTY, errno.EINVAL):
        text = "this kernel accepts no hypercalls from a 32-bit process"
        if gate == "never":
            text += ' and the 64-bit gate is switched off (gate="never")'
        return NotXenError(number, text)
    return NotXenError(number, f"the hypervisor does not respond: {os.strerror(number)}")


def _whose_domain() -> str:
    try:
        with open(CAPABILITIES, encoding="ascii") as file:
            control = "control_d" in file.read()
    except OSError:
        control = False
    return (
        "the kernel restricts privcmd (lockdown, or a restricted handle)" if control else "this is not dom0"
    )
