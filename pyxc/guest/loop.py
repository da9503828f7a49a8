# SPDX-License-Identifier: MIT
"""Loop devices: files of the host as block devices, which disappear with their last user."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from types import TracebackType

_CONTROL = "/dev/loop-control"
_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A
_READ_ONLY, _AUTOCLEAR = 1, 4
_CONFIG = struct.Struct("=II 5Q IIII 64s64s32s 2Q 64x")
"""struct loop_config (linux/loop.h), the same in 32- and 64-bit programs."""
_TRIES = 64


class BlockDevice:
    """The open host side of a guest's disk: a block device, or a file behind a loop device.

    `number` is (major, minor). The loop device disappears once it is closed here and no other program has it
    open, also if this process is killed. OSError; ENOTBLK if the path is neither a block device nor a file.
    Files need Linux 5.8 or later.
    """

    def __init__(self, path: str, writable: bool) -> None:
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        self._descriptor = os.open(path, flags)
        try:
            mode = os.fstat(self._descriptor).st_mode
            if stat.S_ISREG(mode):
                self._put_behind_loop(path, writable)
            elif not stat.S_ISBLK(mode):
                raise OSError(errno.ENOTBLK, os.strerror(errno.ENOTBLK), path)
            found = os.fstat(self._descriptor).st_rdev
        except BaseException:
            self.close()
            raise
        self.number = os.major(found), os.minor(found)

    def _put_behind_loop(self, path: str, writable: bool) -> None:
        file, self._descriptor = self._descriptor, -1
        try:
            self._descriptor = _free_loop(file, path, writable)
        finally:
            os.close(file)

    def close(self) -> None:
        """May be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> BlockDevice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _free_loop(file: int, path: str, writable: bool) -> int:
    """Open a free loop device for a file. Another process may take a free one first."""
    options = _AUTOCLEAR | (0 if writable else _READ_ONLY)
    name = os.fsencode(path)[:63]
    config = _CONFIG.pack(file, 0, 0, 0, 0, 0, 0, 0, 0, 0, options, name, b"", b"", 0, 0)
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _GET_FREE)
            device = os.open(f"/dev/loop{number}", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _CONFIGURE, config)
            except BaseException as error:
                os.close(device)
                if isinstance(error, OSError) and error.errno == errno.EBUSY:
                    continue
                raise
            return device
        raise OSError(errno.EBUSY, "other processes took every free loop device", path)
    finally:
        os.close(control)
