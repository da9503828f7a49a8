# SPDX-License-Identifier: MIT
"""Opening the kernel's devices for Xen, and explaining failures."""

from __future__ import annotations

import errno
import os
from io import FileIO

from pyxc.errors import NotXenError

_ABSENT = (errno.ENOENT, errno.ENXIO, errno.ENODEV)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


def open_device(name: str) -> FileIO:
    """Open /dev/xen/NAME for reading and writing, non-blocking. NotXenError."""
    try:
        return FileIO(f"/dev/xen/{name}", "r+", opener=_open)
    except OSError as error:
        raise cannot_open(name, error) from error


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def cannot_open(name: str, error: OSError) -> NotXenError:
    """The exception for a device that cannot be opened."""
    if error.errno in _ABSENT:
        text = f"no {name} device: this is not a Xen dom0, or the xen-{name} module is not loaded"
    elif error.errno in _FORBIDDEN:
        text = f"no permission to open the {name} device: run as root"
    else:
        text = f"cannot open the {name} device: {error.strerror}"
    return NotXenError(error.errno, text, error.filename)
