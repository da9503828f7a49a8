# SPDX-License-Identifier: MIT
"""The connection to xenstored: its socket in dom0, the kernel's xenbus device in a guest."""

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

if TYPE_CHECKING:  # the module is imported on first use: it is slow to import
    import socket

SOCKETS = ("/run/xenstored/socket", "/var/run/xenstored/socket")
DEVICES = ("/dev/xen/xenbus", "/proc/xen/xenbus")
_CONNECT_S = 5.0
_MOST = 65_536
_CREDENTIALS = struct.Struct("iII")
"""struct ucred: pid, uid, gid."""


class Channel(Protocol):
    """Bytes to and from a xenstored. None of its methods blocks."""

    def fileno(self) -> int:
        """A descriptor to poll: readable when there is data."""

    def send(self, data: bytes) -> int:
        """Send data; returns the number of bytes accepted. BlockingIOError if none; OSError at the end."""

    def receive(self) -> bytes:
        """The received data, b"" at the end. BlockingIOError if there is none."""

    def close(self) -> None:
        """May be called again."""


class FileChannel:
    """xenstored's socket, or another file that accepts messages."""

    payload_most = PAYLOAD_MOST
    """The most bytes of a payload."""
    takes_several = True
    """Whether data that is sent may be several messages."""
    one_request = False
    """Whether the reply to a request must come before the next request is sent."""

    def __init__(self, file: socket.socket | io.FileIO) -> None:
        self._file = file
        # Only C, so that a signal handler that raises runs before or after, not in between.
        self.send = partial(os.write, file.fileno())
        self.receive = partial(os.read, file.fileno(), _MOST)

    def fileno(self) -> int:
        return self._file.fileno()

    def cut(self) -> None:
        """End it while others may be using it: they find the end of the data.

        Its descriptor becomes /dev/null; closing it would free the number for another file.
        """
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.dup2(nowhere, self._file.fileno(), inheritable=False)
        finally:
            os.close(nowhere)

    def close(self) -> None:
        self._file.close()


class DeviceChannel(FileChannel):
    """Linux's xenbus device: a message has at most 4096 bytes, and write() fails for a refused request.

    It keeps the payload of a request in the buffer of the next write(), and sends that to xenstored if it was
    slow (drivers/xen/xenbus/xenbus_dev_frontend.c): the reply must come first.
    """

    payload_most = PAYLOAD_MOST - HEADER_SIZE
    takes_several = False
    one_request = True


def connect() -> FileChannel:
    """Connect to the xenstored of this host: the environment variable XENSTORED_PATH, else the first that
    exists.

    Root uses only root's xenstored: a socket or device that another user owns or serves is refused, because
    names in xenstore select domains. StoreError: ENODEV if there is none, EPERM without permission, EACCES
    for another user's.
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
    where = f"at {chosen}" if chosen else "neither xenstored's socket nor the xenbus device exists"
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
    """StoreError (EACCES) if root would use another user's xenstored."""
    if os.geteuid() == 0 and uid != 0:
        raise StoreError(
            errno.EACCES, f"{path} {what} user {uid}: root uses only a xenstored that runs as root"
        )
