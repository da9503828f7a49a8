# SPDX-License-Identifier: MIT
"""Standard input and output as a connection: what a debugger starts with a pipe."""

from __future__ import annotations

import os


class StandardEnds:
    """Like a connected socket. Threads: one at a time."""

    def __init__(self, reading: int = 0, writing: int = 1) -> None:
        self._reading = reading
        self._writing = writing

    def fileno(self) -> int:
        return self._reading

    def recv(self, size: int) -> bytes:
        return os.read(self._reading, size)

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._writing, view) :]
