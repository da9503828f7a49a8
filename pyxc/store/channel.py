# SPDX-License-Identifier: MIT
"""The way to xenstored: its socket in dom0, the kernel's xenbus device in a guest."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pyxc.errors import StoreError
from pyxc.store.wire import HEADER_SIZE, PAYLOAD_MOST

if TYPE_CHECKING:  # the module is imported where it is needed: it takes long
    import socket

SOCKETS = ("/run/xenstored/socket", "/var/run/xenstored/socket")
DEVICES = ("/dev/xen/xenbus", "/proc/xen/xenbus")
_CONNECT_S = 5.0
_MOST = 65_536
_CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid."""


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
    """xenstored's socket, or another file that takes the bytes of messages."""

    payload_most = PAYLOAD_MOST
    """Bytes of a payload that it takes."""

    def __init__(self, file: socket.socket | io.FileIO) -> None:
        self._file = file
        # C alone, so that a signal handler that raises comes before or after, not in between.
        self.send = partial(os.write, file.fileno())
        self.receive = partial(os.read, file.fileno(), _MOST)

    def fileno(self) -> int:
        return self._file.fileno()

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


class DeviceChannel(FileChannel):
    """Linux's xenbus device: it takes 4096 bytes in all, and refuses a request by the errno of the write."""

    payload_most = PAYLOAD_MOST - HEADER_SIZE


def connect() -> FileChannel:
    """To the xenstored of this host: XENSTORED_PATH of the environment, else the first that is there.

    Root uses only root's: a socket or device that another user owns, or serves, is refused, since the names
    in xenstore decide which domain is meant. StoreError: ENODEV where there is none, EPERM without
    permission, EACCES for another user's.
    """
    chosen = os.environ.get("XENSTORED_PATH")
    forbidden = ""
    for path in (chosen,) if chosen else (*SOCKETS, *DEVICES):
        try:
            return FileChannel(_open_socket(path)) if _is_socket(path) else DeviceChannel(_open_device(path))
        except StoreError:
            raise
        except PermissionError:
            forbidden = path
        except TimeoutError as error:
            raise StoreError(errno.ETIMEDOUT, f"xenstored does not accept a connection at {path}") from error
        except OSError:
            continue
    if forbidden:
        raise StoreError(errno.EPERM, f"no permission to use xenstore ({forbidden})")
    where = f"at {chosen}" if chosen else "neither xenstored's socket nor the xenbus device is there"
    raise StoreError(errno.ENODEV, f"no xenstore: {where}")


def _is_socket(path: str) -> bool:
    return stat.S_ISSOCK(os.stat(path).st_mode)


def _open_socket(path: str) -> socket.socket:
    import socket

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_CONNECT_S)
        connection.connect(path)
        _check_owner(path, os.stat(path).st_uid, "belongs to")
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _check_owner(path, _CREDENTIALS.unpack(credentials)[1], "is served by")
    except BaseException:
        connection.close()
        raise
    connection.setblocking(False)
    return connection


def _open_device(path: str) -> io.FileIO:
    device = io.FileIO(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK), "r+")
    try:
        _check_owner(path, os.fstat(device.fileno()).st_uid, "belongs to")
    except BaseException:
        device.close()
        raise
    return device


def _check_owner(path: str, uid: int, what: str) -> None:
    """StoreError (EACCES) where root would listen to another user."""
    if os.geteuid() == 0 and uid != 0:
        raise StoreError(
            errno.EACCES, f"{path} {what} user {uid}: root uses only a xenstored that runs as root"
        )
