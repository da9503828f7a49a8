# SPDX-License-Identifier: MIT
"""What is loaded into a guest: bytes in memory, or a file that is read piece by piece."""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import Protocol

from pyxc import errors

Source = str | os.PathLike[str] | bytes
"""A file by its path, or what is in it."""


class Data(Protocol):
    """Bytes that can be sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


class Contents:
    """The bytes of a source, to be closed. Of a regular file only the requested slice is in memory.

    ValueError for one of more than `most` bytes; OSError where it cannot be read, and DecodeError for a file
    that becomes shorter meanwhile.
    """

    def __init__(self, what: str, source: Source, most: int) -> None:
        self._what = what
        self._fd = -1
        self._data = source if isinstance(source, bytes) else b""
        self._size = len(self._data)
        if not isinstance(source, bytes):
            self._open(os.fspath(source), most)
        if self._size > most:
            self.close()
            raise ValueError(f"the {what} is larger than the memory of the guest, {most // 1024} KiB")

    def _open(self, path: str | bytes, most: int) -> None:
        """A regular file stays open; another one, such as a pipe, is read whole, up to the limit."""
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                self._fd, self._size = os.dup(file.fileno()), status.st_size
            else:
                self._data = file.read(most + 1)
                self._size = len(self._data)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes | memoryview:
        if self._fd < 0:
            return memoryview(self._data)[part]
        start, stop, _ = part.indices(self._size)
        wanted, pieces = stop - start, []
        while wanted > 0:
            piece = os.pread(self._fd, wanted, stop - wanted)
            if not piece:
                raise errors.DecodeError(f"the {self._what} became shorter while it was read")
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Contents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
