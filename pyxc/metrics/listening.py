# SPDX-License-Identifier: MIT
"""Listening sockets of a metrics server: its own, or passed by systemd."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from collections.abc import MutableMapping

_FIRST_FD = 3
_BACKLOG = 16
_MODE = 0o660


class Refused(ValueError):
    """An address that no server of metrics is started on."""


def on_loopback(address: str, port: int) -> socket.socket:
    """Listen on a port of the loopback interface, 127.0.0.1 or ::1; 0 lets the kernel choose. OSError.

    Refused for any other address: there is neither encryption nor a password here. A proxy has both, and so
    has a socket of systemd's that is filtered.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as error:
        raise Refused(f"{address!r} is not an IP address") from error
    if not parsed.is_loopback:
        raise Refused(f"{address} is not of the loopback interface: let a proxy with TLS stand before it")
    family = socket.AF_INET6 if parsed.version == 6 else socket.AF_INET
    return _listening(family, (address, port), f"{address}:{port}")


def on_path(path: str, mode: int = _MODE) -> socket.socket:
    """Listen on a Unix socket, by default for its owner and group. A socket without a listener is replaced.

    FileExistsError if it is in use, or is not a socket; OSError.
    """
    _remove_dead(path)
    before = os.umask(0o777 & ~mode)
    try:
        return _listening(socket.AF_UNIX, path, path)
    finally:
        os.umask(before)


def _listening(family: socket.AddressFamily, address: str | tuple[str, int], where: str) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except BaseException as error:
        listening.close()
        if isinstance(error, OSError):
            # The error of a socket does not say where it was to be.
            error.filename = where
        raise
    return listening


def _remove_dead(path: str) -> None:
    """Remove a socket whose server has ended."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is there, and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise FileExistsError(f"{path} is in use by another server")


def activated(environment: MutableMapping[str, str] = os.environ) -> socket.socket | None:
    """The socket that systemd hands over (sd_listen_fds(3)); None where it does not. OSError.

    Refused for more than one. What the environment says of it is removed: it is for this process alone.
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()):
        return None
    if count != "1":
        raise Refused(f"systemd hands over {count} sockets: one is expected")
    os.set_inheritable(_FIRST_FD, False)
    return socket.socket(fileno=_FIRST_FD)
