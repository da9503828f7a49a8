# SPDX-License-Identifier: MIT
"""The connection between the two hosts of a migration: sending and expecting messages."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from pyxc import errors
from pyxc.files.sinks import widen

Ends = socket.socket | tuple[int, int]
"""A connection: a socket, or the descriptors to read from and to write to."""


class Connection:
    """Bytes to and from the other side, silent for up to `timeout` seconds. Threads: one at a time."""

    reads_once = True

    def __init__(self, ends: Ends) -> None:
        if isinstance(ends, socket.socket):
            ends = ends.fileno(), ends.fileno()
        self._source, self._sink = ends
        widen(self._source)
        widen(self._sink)
        self.timeout: float | None = None
        self._ahead = b""

    def say(self, message: bytes) -> None:
        while message:
            message = message[self.write(message) :]

    def write(self, data: bytes | memoryview, /) -> int:
        """Write some of it. TimeoutError if the other side reads nothing."""
        self._wait(self._sink, select.POLLOUT)
        try:
            return os.write(self._sink, data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _ended() from error

    def flush(self) -> None:
        """Nothing is buffered."""

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Bound a whole write within the block by the timeout, whatever its size."""
        before = os.get_blocking(self._sink)
        os.set_blocking(self._sink, False)
        try:
            yield
        finally:
            os.set_blocking(self._sink, before)

    def hear(self, expected: bytes, more: int = 0) -> bytes:
        """Read the expected message and some bytes after it; DecodeError for anything else."""
        size = len(expected) + more
        while len(self._ahead) < size:
            found = self._read(size - len(self._ahead))
            if not found:
                raise _ended()
            self._ahead += found
            if not self._ahead.startswith(expected[: len(self._ahead)]):
                raise errors.DecodeError(f"the other side sent {self._ahead[:80]!r}, not {expected[:80]!r}")
        message, self._ahead = self._ahead[:size], self._ahead[size:]
        return message

    def fill(self, buffer: memoryview) -> int:
        """Read what has arrived into a buffer; returns the number of bytes, 0 at the end."""
        self._wait(self._source, select.POLLIN)
        return os.readv(self._source, [buffer])

    def push_back(self, data: bytes) -> None:
        self._ahead = bytes(data) + self._ahead

    def _read(self, size: int) -> bytes:
        self._wait(self._source, select.POLLIN)
        return os.read(self._source, size)

    def _wait(self, end: int, event: int) -> None:
        poll = select.poll()
        poll.register(end, event)
        if not poll.poll(None if self.timeout is None else 1000 * self.timeout):
            raise TimeoutError(errno.ETIMEDOUT, f"the other side has been silent for {self.timeout:g} s")


def _ended() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "the other side has ended the connection")
