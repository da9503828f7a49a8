# SPDX-License-Identifier: MIT
"""A guest's console through xenconsoled's terminal."""

from __future__ import annotations

import errno
import os
import re
import stat
import tty

from pyxc import errors

_PTY = re.compile(r"/dev/pts/[0-9]{1,6}")
_READ_MOST = 4096


class Terminal:
    """xenconsoled's pseudo-terminal for one guest, open. Threads: one at a time.

    StoreError if its name in xenstore is not that of a pseudo-terminal.
    """

    def __init__(self, path: str) -> None:
        if not _PTY.fullmatch(path):
            raise errors.StoreError(errno.EPROTO, f"{path[:80]!r} is not a pseudo-terminal")
        self._ended = False
        self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISCHR(os.fstat(self._descriptor).st_mode):
                raise errors.StoreError(errno.EPROTO, f"{path} is not a pseudo-terminal")
            tty.setraw(self._descriptor)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int | None:
        """None once xenconsoled has closed it."""
        return None if self._ended else self._descriptor

    def hush(self) -> None:
        """Do nothing: output remains readable until it is read."""

    def read(self) -> bytes:
        """The new output, b"" if there is none or at the end."""
        try:
            return os.read(self._descriptor, _READ_MOST)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._ended = True
            return b""

    def write(self, data: bytes) -> int:
        """Type data; returns the number of bytes accepted."""
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """May be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
