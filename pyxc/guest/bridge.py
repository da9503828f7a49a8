# SPDX-License-Identifier: MIT
"""Network interfaces of dom0: brought up, and made ports of a bridge, without a hotplug script."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

_GET_FLAGS, _SET_FLAGS, _SET_ADDRESS, _SET_NAME, _ADD_TO_BRIDGE = 0x8913, 0x8914, 0x8924, 0x8923, 0x89A2
_UP = 1
_ETHERNET = 1
_QUIET_ADDRESS = bytes.fromhex("feffffffffff")
"""The address that Xen's scripts use: it is so high that a bridge never takes it as its own."""


def exists(interface: str) -> bool:
    return os.path.exists(f"/sys/class/net/{interface}")


def check(bridge: str) -> None:
    """Check that a bridge exists. OSError ENODEV if it does not."""
    if not os.path.isdir(f"/sys/class/net/{bridge}/bridge"):
        raise OSError(errno.ENODEV, f"dom0 has no bridge {bridge}", bridge)


def join(interface: str, bridge: str, name: str | None = None) -> str:
    """Make an interface a port of a bridge, up; returns its name, which is `name` if given. OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        address = _request(interface, struct.pack("=H6s", _ETHERNET, _QUIET_ADDRESS))
        fcntl.ioctl(control, _SET_ADDRESS, address)
        if name is not None:
            fcntl.ioctl(control, _SET_NAME, _request(interface, name.encode()))
            interface = name
        index = socket.if_nametoindex(interface)
        fcntl.ioctl(control, _ADD_TO_BRIDGE, _request(bridge, struct.pack("=i", index)))
        answer = fcntl.ioctl(control, _GET_FLAGS, _request(interface, b""))
        (flags,) = struct.unpack_from("=H", answer, 16)
        fcntl.ioctl(control, _SET_FLAGS, _request(interface, struct.pack("=H", flags | _UP)))
    return interface


def _request(interface: str, content: bytes) -> bytes:
    """struct ifreq (linux/if.h)."""
    return struct.pack("=16s24s", interface.encode()[:15], content)
