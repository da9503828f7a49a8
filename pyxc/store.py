# SPDX-License-Identifier: MIT
"""xenstore, as far as names need it: a client that only reads."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
import warnings
from typing import Protocol

from pyxc.errors import StoreError

SOCKETS = ("/run/xenstored/socket", "/var/run/xenstored/socket")
DEVICES = ("/dev/xen/xenbus", "/proc/xen/xenbus")
_HEADER = struct.Struct("=IIII")
_DIRECTORY, _READ, _ERROR = 1, 2, 16
_PAYLOAD_MOST = 4096
_PATIENCE_S = 1.0


class Store(Protocol):
    """What names need of xenstore."""

    def read(self, path: str) -> bytes | None:
        """The value at a path, None where there is none."""

    def list(self, path: str) -> list[str] | None:
        """The names below a path, None where there is none."""


class StoreClient:
    """A connection to xenstored (docs/misc/xenstore.txt of Xen: wire format).

    Threads: may be used by many, one request at a time. Every wait ends after a second, since in a dom0
    without xenstored the kernel's device takes requests and never answers.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._request = 0
        self._socket, self._fd = _connect()

    def read(self, path: str) -> bytes | None:
        return self._ask(_READ, path)

    def list(self, path: str) -> list[str] | None:
        answer = self._ask(_DIRECTORY, path)
        return None if answer is None else [name.decode() for name in answer.split(b"\0") if name]

    def _ask(self, kind: int, path: str) -> bytes | None:
        """StoreError ETIMEDOUT when nothing answers; None for ENOENT."""
        payload = path.encode() + b"\0"
        with self._lock:
            self._request += 1
            self._send(_HEADER.pack(kind, self._request, 0, len(payload)) + payload)
            while True:
                answered, request, _, size = _HEADER.unpack(self._receive(_HEADER.size))
                if size > _PAYLOAD_MOST:
                    raise StoreError(errno.EPROTO, f"xenstored announces {size} bytes, more than it may")
                body = self._receive(size)
                if request == self._request:
                    break
        if answered != _ERROR:
            return body
        name = body.rstrip(b"\0").decode(errors="replace")
        if name == "ENOENT":
            return None
        raise StoreError(getattr(errno, name, errno.EIO), f"xenstored refuses {path}: {name}")

    def _send(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            raise StoreError(errno.ECONNRESET, "xenstored closed the connection") from error

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            if not poll.poll(_PATIENCE_S * 1000):
                raise StoreError(errno.ETIMEDOUT, "nothing answers on xenstore: is xenstored running?")
            piece = os.read(self._fd, size - len(data))
            if not piece:
                raise StoreError(errno.ECONNRESET, "xenstored closed the connection")
            data += piece
        return data

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _connect() -> tuple[socket.socket | None, int]:
    for path in SOCKETS:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
        else:
            return connection, connection.fileno()
    for path in DEVICES:
        try:
            return None, os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            continue
    raise StoreError(errno.ENOENT, "no xenstore: neither xenstored's socket nor the xenbus device is there")


class Names:
    """Names of domains. Threads: may be used by many.

    Where nothing answers it says so once in the life of the process, and knows no names from then on.
    """

    _silent = False

    def __init__(self, store: Store | None = None, use: bool = True) -> None:
        self._store = store
        self._client: StoreClient | None = None
        self._use = use

    def domain_name(self, domid: int) -> str | None:
        if not self._use or Names._silent:
            return None
        try:
            if self._store is None:
                self._store = self._client = StoreClient()
            name = self._store.read(f"/local/domain/{domid}/name")
        except StoreError as error:
            if error.errno in (errno.ETIMEDOUT, errno.ENOENT, errno.ECONNRESET):
                self._give_up(error)
                return None
            raise
        return None if name is None else name.decode(errors="replace")

    def _give_up(self, error: StoreError) -> None:
        Names._silent = True
        self.close()
        warnings.warn(f"domains show without names: {error.strerror}", RuntimeWarning, stacklevel=4)

    def close(self) -> None:
        """End the connection that it made itself, if any; the next question makes another one."""
        if self._client is not None:
            self._client.close()
            self._store = self._client = None
