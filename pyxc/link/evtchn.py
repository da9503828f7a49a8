# SPDX-License-Identifier: MIT
"""Linux's event channel device: ports of this domain, and their events (linux/xen/evtchn.h)."""

from __future__ import annotations

import errno
import struct
import sys
from threading import RLock

from pyxc._core import IOCTL, device_ioctl
from pyxc.link.device import open_device

_PORT_SIZE = 4
_NARROW = {"restrict_domid": "=H"}
"""Requests whose structure does not consist of u32."""


class EvtchnDevice:
    """One open /dev/xen/evtchn; `gated`: its ioctls need the 64-bit gate. See EventDevice. NotXenError.

    Its calls do not block. Each holds the lock, so that close() cannot free the descriptor's number for
    another file during a call.
    """

    def __init__(self, gated: bool) -> None:
        self._gated = gated
        self._lock = RLock()
        self.only: int | None = None
        self._file = open_device("evtchn")
        self.fileno = self._file.fileno

    def request(self, name: str, *numbers: int) -> int:
        argument = bytearray(struct.pack(_NARROW.get(name, f"={len(numbers)}I"), *numbers))
        with self._lock:
            result = device_ioctl(self.fileno(), IOCTL[f"evtchn_{name}"], argument, gate=self._gated)
            if name == "restrict_domid" and result >= 0:
                (self.only,) = numbers
        return result

    def take(self) -> int:
        """One port at a time: further ones in the kernel keep the descriptor readable."""
        try:
            with self._lock:
                port = self._file.read(_PORT_SIZE)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            return -errno.EFBIG
        return int.from_bytes(port, sys.byteorder) if port else 0

    def unmask(self, port: int) -> None:
        with self._lock:
            self._file.write(port.to_bytes(_PORT_SIZE, sys.byteorder))

    def close(self) -> None:
        with self._lock:
            self._file.close()
