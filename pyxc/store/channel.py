# SPDX-License-Identifier: MIT
"""The way to xenstored: its socket in dom0, the kernel's xenbus device in a guest."""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
from typing import Protocol

from pyxc.errors import StoreError

SOCKETS = ("/run/xenstored/socket", "/var/run/xenstored/socket")
DEVICES = ("/dev/xen/xenbus", "/proc/xen/xenbus")
_CONNECT_S = 5.0
_MOST = 65_536


class Channel(Protocol):
    """Bytes to a xenstored and back. None of its methods waits."""

    def fileno(self) -> int:
        """To be polled: readable when something has come."""

    def send(self, data: bytes) -> int:
        """How many bytes were taken. BlockingIOError when none can be at the moment; OSError at the end."""

    def receive(self) -> bytes:
        """What has come, b"" at the end. BlockingIOError when nothing has."""

    def close(self) -> None:
        """May be called again."""


class FileChannel:
    """A socket or a device."""

    def __init__(self, file: socket.socket | io.FileIO) -> None:
        self._file = file

    def fileno(self) -> int:
        return self._file.fileno()

    def send(self, data: bytes) -> int:
        return os.write(self._file.fileno(), data)

    def receive(self) -> bytes:
        return os.read(self._file.fileno(), _MOST)

    def cut(self) -> None:
        """End it, while others may be using it: they find that nothing comes any more.

        Its descriptor leads nowhere then; to close it would free the number for another file.
        """
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.dup2(nowhere, self._file.fileno(), inheritable=False)
        finally:
            os.close(nowhere)

    def close(self) -> None:
        self._file.close()


def connect() -> FileChannel:
    """To the xenstored of this host: XENSTORED_PATH of the environment, else the first that is there.

    StoreError: ENODEV where there is none, EPERM without permission.
    """
    chosen = os.environ.get("XENSTORED_PATH")
    forbidden = ""
    for path in (chosen,) if chosen else (*SOCKETS, *DEVICES):
        try:
            return FileChannel(_open_socket(path) if _is_socket(path) else _open_device(path))
        except PermissionError:
            forbidden = path
        except OSError:
            continue
    if forbidden:
        raise StoreError(errno.EPERM, f"no permission to use xenstore ({forbidden})")
    where = f"at {chosen}" if chosen else "neither xenstored's socket nor the xenbus device is there"
    raise StoreError(errno.ENODEV, f"no xenstore: {where}")


def _is_socket(path: str) -> bool:
    return stat.S_ISSOCK(os.stat(path).st_mode)


def _open_socket(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_CONNECT_S)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    connection.setblocking(False)
    return connection


def _open_device(path: str) -> io.FileIO:
    return io.FileIO(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK), "r+")
