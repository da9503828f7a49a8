# SPDX-License-Identifier: MIT
"""Reads files that may be compressed, from the beginning to the end, in bounded memory."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

from pyxc import errors
from pyxc.files.libraries import library

if TYPE_CHECKING:
    import socket

Opened: TypeAlias = "str | os.PathLike[str] | BinaryIO | socket.socket"
"""A source: a path, an open file or pipe, a socket."""
STANDARD_INPUT = "-"
_MAGIC_BYTES = 4
_WINDOW_MOST_BYTES = 128 << 20
"""The most memory for a zstd file: the default of the program zstd."""


class _Format(NamedTuple):
    """One compression: its first bytes, how to open it, and the errors of its library for damaged data."""

    magic: bytes
    open: Callable[[io.RawIOBase], tuple[Any, tuple[type[Exception], ...]]]


class CompressedFile:
    """A file opened for reading; it is decompressed if its first bytes are those of gzip, zstd or lz4.

    with CompressedFile("web1.save.zst") as file:       # "-" is the standard input
        data = file.read(1 << 18)

    An open file and a socket are read from their present position, and remain open. `compression` is "gzip",
    "zstd", "lz4" or None. zstd needs the Python package zstandard, lz4 the package lz4: MissingLibrary
    without it. OSError if the file cannot be read. Threads: one at a time.
    """

    def __init__(self, source: Opened) -> None:
        self._raw, self._close = _opened(source)
        try:
            begun = _Source(self._raw)
            self.compression = _format_of(begun.head)
            self._file: Any = begun
            self._damage: tuple[type[Exception], ...] = ()
            if self.compression is not None:
                self._file, self._damage = _FORMATS[self.compression].open(begun)
        except BaseException:
            self._close()
            raise

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end. DecodeError if the compressed data is damaged."""
        try:
            data: bytes = self._file.read(size)
        except self._damage as error:
            raise errors.DecodeError(f"the {self.compression} data is damaged: {error}") from error
        return data

    def readinto(self, buffer: memoryview) -> int:
        """The same into a buffer; returns the number of bytes."""
        try:
            count: int | None = self._file.readinto(buffer)
        except self._damage as error:
            raise errors.DecodeError(f"the {self.compression} data is damaged: {error}") from error
        return count or 0

    def close(self) -> None:
        self._close()

    def __enter__(self) -> CompressedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _opened(source: Opened) -> tuple[Any, Callable[[], object]]:
    """The object to read from, and the function that closes it."""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        raw = io.FileIO(0 if path == STANDARD_INPUT else path, closefd=path != STANDARD_INPUT)
        return raw, raw.close
    if hasattr(source, "makefile"):  # a socket, whose module takes long to import
        made = source.makefile("rb", buffering=0)
        return made, made.close
    return source, lambda: None


def _format_of(head: bytes) -> str | None:
    return next((name for name, form in _FORMATS.items() if head.startswith(form.magic)), None)


class _Source(io.RawIOBase):
    """A file, or a pipe, whose first bytes were already read."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.head = b""
        while len(self.head) < _MAGIC_BYTES and (more := file.read(_MAGIC_BYTES - len(self.head))):
            self.head += more
        self._pushed_back = self.head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if not self._pushed_back:
            count: int | None = self._file.readinto(buffer)
            return count
        with memoryview(buffer) as view, view.cast("B") as octets:
            part = self._pushed_back[: len(octets)]
            octets[: len(part)] = part
        self._pushed_back = self._pushed_back[len(part) :]
        return len(part)


def _open_gzip(source: io.RawIOBase) -> tuple[Any, tuple[type[Exception], ...]]:
    import gzip
    import zlib

    return gzip.GzipFile(fileobj=_binary(source)), (gzip.BadGzipFile, EOFError, zlib.error)


def _open_zstd(source: io.RawIOBase) -> tuple[Any, tuple[type[Exception], ...]]:
    zstandard = library("zstandard", "zstd")
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MOST_BYTES)
    return decompressor.stream_reader(source, read_across_frames=True), (zstandard.ZstdError,)


def _open_lz4(source: io.RawIOBase) -> tuple[Any, tuple[type[Exception], ...]]:
    # It raises nothing more special.
    return library("lz4.frame", "lz4").LZ4FrameFile(_binary(source)), (RuntimeError, EOFError)


def _binary(source: io.RawIOBase) -> BinaryIO:
    return io.BufferedReader(source)


_FORMATS = {
    "gzip": _Format(b"\x1f\x8b\x08", _open_gzip),
    "zstd": _Format(b"\x28\xb5\x2f\xfd", _open_zstd),
    "lz4": _Format(b"\x04\x22\x4d\x18", _open_lz4),
}
