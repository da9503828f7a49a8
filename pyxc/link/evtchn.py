# SPDX-License-Identifier: MIT
"""Linux's event channel device: ports of this domain, and news of them (linux/xen/evtchn.h)."""

from __future__ import annotations

import errno
import struct
import sys

from pyxc._core import IOCTL, device_ioctl
from pyxc.link.device import open_device

_PORT_SIZE = 4
_NARROW = {"restrict_domid": "=H"}
"""Requests whose structure is not of u32."""


class EvtchnDevice:
    """One open /dev/xen/evtchn; `gated`: its ioctls need the 64-bit gate. See EventDevice. NotXenError."""

    def __init__(self, gated: bool) -> None:
        self._gated = gated
        self._file = open_device("evtchn")
        self.fileno = self._file.fileno
        self.close = self._file.close

    def request(self, name: str, *numbers: int) -> int:
        argument = bytearray(struct.pack(_NARROW.get(name, f"={len(numbers)}I"), *numbers))
        return device_ioctl(self.fileno(), IOCTL[f"evtchn_{name}"], argument, gate=self._gated)

    def take(self) -> int:
        """One port at a time: what the kernel still holds keeps the descriptor readable."""
        try:
            port = self._file.read(_PORT_SIZE)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            return -errno.EFBIG
        return int.from_bytes(port, sys.byteorder) if port else 0

    def unmask(self, port: int) -> None:
        self._file.write(port.to_bytes(_PORT_SIZE, sys.byteorder))
