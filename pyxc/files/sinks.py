# SPDX-License-Identifier: MIT
"""The destination of a long stream of bytes, compressed or not: a file, a pipe or a socket."""

from __future__ import annotations

import errno
import io
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pyxc.files.libraries import library

if TYPE_CHECKING:
    import socket

Compression = Literal["gzip", "zstd", "lz4"]
Piece = bytes | bytearray | memoryview
_GZIP_FORMAT = 16 + zlib.MAX_WBITS
_PIPE_BYTES = 1 << 20
"""What a system allows by default."""
_LIMITED_PARTS = 20
_LIMITED_BYTES = 1 << 12
"""A stream that is limited leaves in so many parts a second, each at least this large."""
_GZIP_LEVEL = 1
"""The guest is stopped while its last pages are written."""


def widen(end: int) -> None:
    """Let a pipe hold more, where the system allows it: its two sides then wait for each other less often."""
    import fcntl

    with suppress(OSError):
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class Compressor(Protocol):
    """Compresses data; buffered data is returned with later data, or by flush()."""

    def compress(self, data: Any, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Writable(Protocol):
    """A raw file: write() returns the number of bytes written, or None if it would block."""

    def write(self, data: Any, /) -> int | None: ...

    def flush(self) -> None: ...


class Pace:
    """Lets so many bytes pass in a second, and no more after a time without any. Threads: one at a time."""

    def __init__(self, bytes_per_s: int) -> None:
        self.at_once = max(_LIMITED_BYTES, bytes_per_s // _LIMITED_PARTS)
        self.waited_s = 0.0
        self._bytes_per_s = bytes_per_s
        self._next = 0.0

    def passed(self, count: int) -> None:
        """Wait until the next bytes may leave."""
        now = time.monotonic()
        self._next = max(self._next, now) + count / self._bytes_per_s
        time.sleep(self._next - now)
        self.waited_s += self._next - now


class Sink:
    """Takes all bytes of a stream, in order. `sent_bytes` counts them as they leave, compressed.

    `file` is any object with write(), buffered or not, or a connected socket. `reads_once`: every byte goes
    to the system and nowhere else, so that it may be memory which another program writes meanwhile;
    compression, a digest and unknown objects may read twice. MissingLibrary if a compression's package is not
    installed. `pace` limits how fast the bytes leave, as long as it is set. Threads: one at a time.
    """

    def __init__(self, file: Writable | socket.socket, compression: Compression | None = None) -> None:
        self.pace: Pace | None = None
        self._put: Callable[[memoryview], int | None]
        # A socket is known by what it lacks: its module takes long to import.
        self._put = file.write if hasattr(file, "write") else file.send
        self._flush = file.flush if hasattr(file, "flush") else None
        if hasattr(file, "fileno"):
            with suppress(OSError):  # a file in memory has none
                widen(file.fileno())
        plain = type(file) is io.FileIO or not hasattr(file, "write")
        self.reads_once = compression is None and (plain or bool(getattr(file, "reads_once", False)))
        self._compressor = None if compression is None else _COMPRESSORS[compression]()
        self.sent_bytes = 0

    def write(self, pieces: Iterable[Piece]) -> None:
        """Write all pieces. OSError if this fails; BlockingIOError if it would block."""
        for piece in pieces:
            self._send(piece if self._compressor is None else self._compressor.compress(piece))

    def finish(self) -> None:
        """Write buffered data."""
        if self._compressor is not None:
            self._send(self._compressor.flush())
        if self._flush is not None:
            self._flush()

    def _send(self, piece: Piece) -> None:
        left = memoryview(piece).cast("B")
        while left:
            count = self._put(left if self.pace is None else left[: self.pace.at_once])
            if count is None:
                raise BlockingIOError(errno.EAGAIN, "the file does not accept more bytes at the moment")
            self.sent_bytes += count
            left = left[count:]
            if self.pace is not None:
                self.pace.passed(count)


def check_compression(name: str | None) -> Compression | None:
    """ValueError for an unknown one."""
    if name is None:
        return None
    for known in _COMPRESSORS:
        if name == known:
            return known
    raise ValueError(f"compress is {name!r}: expected one of {', '.join(_COMPRESSORS)}, or None")


def _gzip() -> Compressor:
    return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)


def _zstd() -> Compressor:
    compressor: Compressor = library("zstandard", "zstd").ZstdCompressor().compressobj()
    return compressor


class _Lz4:
    """The frame format, begun with the first data."""

    def __init__(self) -> None:
        self._frame = library("lz4.frame", "lz4").LZ4FrameCompressor()
        self._begun = False

    def compress(self, data: Any, /) -> bytes:
        head = b"" if self._begun else self._frame.begin()
        self._begun = True
        return bytes(head + self._frame.compress(bytes(data)))

    def flush(self) -> bytes:
        return self.compress(b"") + bytes(self._frame.flush())


_COMPRESSORS: dict[Compression, Callable[[], Compressor]] = {"gzip": _gzip, "zstd": _zstd, "lz4": _Lz4}
