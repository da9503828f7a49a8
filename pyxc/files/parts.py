# SPDX-License-Identifier: MIT
"""Files that a writer left unfinished."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from pyxc.domain.leftovers import Leftover
from pyxc.errors import DecodeError
from pyxc.files.opened import open_checked
from pyxc.files.provenance import ORIGIN, Origin
from pyxc.files.writer import PART
from pyxc.files.xattrs import Attributes


class _NoFile(Exception):
    """Something that a writer does not make."""


def abandoned(directory: str | os.PathLike[str]) -> list[Leftover]:
    """The unfinished files of a directory whose writer has ended, in the order of their names.

    A writer holds a lock (flock) on its file as long as it lives. What does not say that pyxc wrote it is
    listed, too, if its name ends in .part. OSError where the directory cannot be read; files that cannot be
    opened are "unknown".
    """
    found = []
    for path in sorted(Path(directory).iterdir()):
        if path.name.endswith(PART):
            with suppress(_NoFile, FileNotFoundError):
                found.append(_leftover(path))
    return [left for left in found if left is not None]


def _leftover(path: Path) -> Leftover | None:
    try:
        fd = open_checked(path, _only_regular, flags=os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:
        return Leftover("unknown", str(path), f"it cannot be checked: {error.strerror}", "run as root")
    try:
        if _is_written(fd):
            return None
        remedy = f"rm {path}, or write {path.name.removesuffix(PART)} again"
        return Leftover("file", str(path), _said(fd, path), remedy)
    finally:
        os.close(fd)


def _only_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise _NoFile


def _is_written(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks: who writes cannot be seen
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _said(fd: int, path: Path) -> str:
    """What is known of an unfinished file."""
    with suppress(OSError, DecodeError):
        data = Attributes(fd, str(path)).get(ORIGIN)
        if data is not None:
            origin = Origin.decode(data)
            whose = f" of domain {origin.domain.domid}" if origin.domain is not None else ""
            return f"an unfinished {origin.kind} file{whose}, whose writer has ended"
    return "an unfinished file, whose writer has ended"
