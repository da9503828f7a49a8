# SPDX-License-Identifier: MIT
"""Logs of bounded size: the newest part is in FILE, older ones in FILE.1, FILE.2 and so on."""

from __future__ import annotations

import os
from types import TracebackType

from pyxc import arguments

_BYTES_MOST = 2**40
_KEPT_MOST = 1000


class RotatingLog:
    """A file to which write() appends; before it exceeds `most_bytes` it is renamed to FILE.1, up to `keep`.

    A new file is readable by its owner only. Threads: one at a time.

    >>> with RotatingLog("web1.log") as log, web.console as console:
    ...     console.copy = log.write
    ...     console.expect(b"login: ", timeout=60)[0]
    b'login: '
    """

    def __init__(self, path: str | os.PathLike[str], most_bytes: int = 1 << 20, keep: int = 3) -> None:
        self.path = os.fspath(path)
        self._most = arguments.natural("most_bytes", most_bytes, _BYTES_MOST, 1)
        self._keep = arguments.natural("keep", keep, _KEPT_MOST, 1)
        self._descriptor = self._opened()
        self._size = os.fstat(self._descriptor).st_size

    def _opened(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self.path, flags, 0o600)

    def write(self, data: bytes) -> None:
        """Append; a write of more than `most_bytes` is split into several files. OSError."""
        view = memoryview(data)
        while view:
            if self._size >= self._most:
                self._rotate()
            written = os.write(self._descriptor, view[: self._most - self._size])
            self._size += written
            view = view[written:]

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            if os.path.lexists(f"{self.path}.{number}"):
                os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.replace(self.path, f"{self.path}.1")
        fresh = self._opened()
        os.close(self._descriptor)
        self._descriptor, self._size = fresh, 0

    def close(self) -> None:
        """May be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> RotatingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
