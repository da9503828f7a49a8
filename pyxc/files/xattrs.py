# SPDX-License-Identifier: MIT
"""Extended attributes of open files: the one place that uses pyxattr.

Another package also has a module xattr (python3-xattr in Debian, "xattr" on the package index), with other
functions. If that one is installed it is recognised, a warning says so, and Python's own calls are used; they
are also used if neither is installed. CPython 3.11 for musl has no such calls, and needs pyxattr.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from pyxc.errors import AttributeForbidden, AttributeUnsupported, MissingLibrary
from pyxc.files.opened import open_checked

CREATE, REPLACE = 1, 2
"""Flags of set(): the attribute must not exist; it must exist. Linux's numbers: not every os has names."""

OWN = ("user.pyxc.", "trusted.pyxc.")
"""The prefixes of pyxc's own attributes."""

_TRUSTED = "trusted."
_CAP_SYS_ADMIN = 21
_EVERY_USER = ["0", "0", str(2**32 - 1)]


class Calls(NamedTuple):
    """The functions of pyxattr or of Python. All take a file descriptor."""

    get: Callable[[int, str], bytes]
    set: Callable[[int, str, bytes, int], None]
    remove: Callable[[int, str], None]
    all: Callable[[int], list[tuple[bytes, bytes]]]


@cache
def calls() -> Calls:
    """pyxattr's functions, or Python's own if pyxattr is not installed; MissingLibrary without both."""
    try:
        module: Any = importlib.import_module("xattr")
    except ImportError:
        return _pythons_own()
    if not hasattr(module, "get_all"):
        own = _pythons_own()
        text = (
            "the installed module xattr is not pyxattr, so Python's own calls are used: "
            "install python3-pyxattr, which takes the place of python3-xattr"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=4)
        return own
    return Calls(module.get, module.set, module.remove, module.get_all)


def _pythons_own() -> Calls:
    try:
        return Calls(os.getxattr, os.setxattr, os.removexattr, _get_all)
    except AttributeError as error:
        raise MissingLibrary(
            "extended attributes need the Python package pyxattr (on Debian: python3-pyxattr): "
            "this Python has no calls of its own",
            name="pyxattr",
        ) from error


def _get_all(fd: int) -> list[tuple[bytes, bytes]]:
    return [(os.fsencode(name), os.getxattr(fd, name)) for name in os.listxattr(fd)]


class Attributes:
    """The extended attributes of an open file; `path` is for messages. Threads: safe to share."""

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path

    def get(self, name: str) -> bytes | None:
        """A value, None if there is none or the file system has no attributes.

        AttributeForbidden for a trusted one, which may exist, but is hidden from this process.
        """
        try:
            return calls().get(self.fd, name)
        except OSError as error:
            if error.errno == errno.ENODATA and name.startswith(_TRUSTED) and not sees_trusted():
                raise self._forbidden(name, "seen") from error
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return None
            raise self._error(error, name, "read") from error

    def set(self, name: str, value: bytes, flags: int = 0) -> None:
        """Set a value. FileExistsError with CREATE if it exists, OSError ENODATA with REPLACE if it does not.

        AttributeForbidden, AttributeUnsupported; OSError ENOSPC if the file system has no space for it.
        """
        try:
            calls().set(self.fd, name, value, flags)
        except OSError as error:
            raise self._error(error, name, "set") from error

    def remove(self, name: str) -> bool:
        """Remove it; returns whether it existed. AttributeForbidden."""
        try:
            calls().remove(self.fd, name)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return False
            raise self._error(error, name, "removed") from error
        return True

    def own(self) -> dict[str, bytes]:
        """pyxc's attributes that this process may read, read together."""
        try:
            found = calls().all(self.fd)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return {}
            raise self._error(error, "user.pyxc", "listed") from error
        names = ((name.decode("ascii", "backslashreplace"), value) for name, value in found)
        return {name: value for name, value in names if name.startswith(OWN)}

    def _error(self, error: OSError, name: str, done: str) -> OSError:
        """The exception for an OSError of an attribute, with the names of both."""
        number = error.errno or errno.EIO
        if number == errno.EOPNOTSUPP:
            kept = name.partition(".")[0]
            text = f"{name} cannot be {done}: the file system does not support {kept} attributes"
            return AttributeUnsupported(number, text, self.path)
        if number in (errno.EPERM, errno.EACCES):
            return self._forbidden(name, done)
        return OSError(number, f"{name} cannot be {done}: {os.strerror(number)}", self.path)

    def _forbidden(self, name: str, done: str) -> AttributeForbidden:
        trusted = name.startswith(_TRUSTED) and not sees_trusted()
        why = ": this needs CAP_SYS_ADMIN, which the host's root has" if trusted else ""
        return AttributeForbidden(errno.EPERM, f"{name} cannot be {done}{why}", self.path)


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Attributes]:
    """The attributes of a file or of a block device's node; a symbolic link is followed.

    Nothing else is opened, because opening can have effects: it starts a watchdog. ValueError for other
    types.
    """
    shown = os.fspath(path)

    def check(mode: int) -> None:
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise ValueError(f"{shown} is neither a file nor a block device")

    fd = open_checked(path, check)
    try:
        yield Attributes(fd, shown)
    finally:
        os.close(fd)


def sees_trusted() -> bool:
    """Whether this process may read and set trusted attributes.

    This needs CAP_SYS_ADMIN in the host's own user namespace. Other processes see no such attributes.
    """
    try:
        status, users = _of_kernel("status"), _of_kernel("uid_map").split()
    except OSError:
        return os.geteuid() == 0
    capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    allowed = capabilities is not None and int(capabilities[1], 16) >> _CAP_SYS_ADMIN & 1
    return bool(allowed) and users == _EVERY_USER


def _of_kernel(name: str) -> str:
    """What the kernel says of this process."""
    with open(f"/proc/self/{name}", encoding="ascii", errors="replace") as file:
        return file.read()
