# SPDX-License-Identifier: MIT
"""Compressed kernels, expanded in bounded memory: gzip, bzip2, xz, lzma; zstd and lz4 through packages."""

from __future__ import annotations

import errno
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from pyxc import errors
from pyxc.files.libraries import library

_WINDOW_MOST_BYTES = 128 << 20
_LZMA_MOST_BYTES = 256 << 20
"""Memory that decompression itself may take; kernels are compressed with dictionaries of up to 128 MiB."""
_LZ4_BLOCK_BYTES = 8 << 20
_GZIP = 31
"""zlib's number for data with gzip's header."""


class _Format(NamedTuple):
    """A compression format: its name, its magic bytes, and the function that expands a bounded amount."""

    name: str
    magic: bytes
    expand: Callable[[bytes, int], bytes]


def expand(data: bytes, most: int) -> bytes:
    """Expand compressed data, recognised by its first bytes; other data is returned unchanged.

    DecodeError if it is damaged, or expands to more than `most` bytes. MissingLibrary for zstd and lz4
    without the Python packages zstandard and lz4; Unsupported for LZO. Bytes behind the compressed data are
    ignored.

    >>> expand(zlib.compress(b"kernel", wbits=31), 100)
    b'kernel'
    """
    found = next((form for form in _FORMATS if data.startswith(form.magic)), None)
    if found is None:
        return data
    expanded = found.expand(data, most + 1)
    if len(expanded) > most:
        raise errors.DecodeError(f"the {found.name} data of the kernel is more than {most} bytes")
    return expanded


def _of_standard(
    name: str, make: Callable[[], Any], damage: Callable[[], type[Exception]]
) -> Callable[[bytes, int], bytes]:
    """Expand with a decompressor of the standard library, which stops at the end of the stream or space.

    `make` and `damage` import what they need: some Pythons are built without bz2 and lzma.
    """

    def expanded(data: bytes, most: int) -> bytes:
        decompressor = make()
        try:
            found: bytes = decompressor.decompress(data, most)
        except damage() as error:
            raise errors.DecodeError(f"the {name} data of the kernel is damaged: {error}") from error
        if len(found) < most and not decompressor.eof:
            raise errors.DecodeError(f"the {name} data of the kernel ends too early")
        return found

    return expanded


def _zstd(data: bytes, most: int) -> bytes:
    zstandard = library("zstandard", "a kernel compressed with zstd")
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MOST_BYTES)
    try:
        with decompressor.stream_reader(io.BytesIO(data)) as reader:
            return bytes(reader.read(most))
    except zstandard.ZstdError as error:
        raise errors.DecodeError(f"the zstd data of the kernel is damaged: {error}") from error


def _lz4(data: bytes, most: int) -> bytes:
    """Linux's own format: a magic number, then blocks of at most 8 MiB, each preceded by its size."""
    block = library("lz4.block", "a kernel compressed with lz4")
    view, pieces, found, place = memoryview(data), [], 0, 4
    while place + 4 <= len(data) and found < most:
        (size,) = struct.unpack_from("<I", data, place)
        place += 4
        if not size or place + size > len(data):
            break  # the size of the whole follows the last block
        try:
            pieces.append(block.decompress(bytes(view[place : place + size]), _LZ4_BLOCK_BYTES))
        except (RuntimeError, ValueError) as error:
            raise errors.DecodeError(f"the lz4 data of the kernel is damaged: {error}") from error
        found, place = found + len(pieces[-1]), place + size
    return b"".join(pieces)[:most]


def _lzo(data: bytes, most: int) -> bytes:
    hint = (
        "the kernel is compressed with LZO, which no maintained Python package supports: decompress it first"
    )
    raise errors.Unsupported(errno.EOPNOTSUPP, "reading a kernel", hint=hint)


def _bzip2() -> Any:
    return library("bz2", "a kernel compressed with bzip2").BZ2Decompressor()


def _xz() -> Any:
    lzma = _lzma()
    return lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_LZMA_MOST_BYTES)


def _lzma() -> Any:
    return library("lzma", "a kernel compressed with xz or lzma")


def _lzma_error() -> type[Exception]:
    error: type[Exception] = _lzma().LZMAError
    return error


_FORMATS = (
    _Format("gzip", b"\x1f\x8b", _of_standard("gzip", lambda: zlib.decompressobj(_GZIP), lambda: zlib.error)),
    _Format("bzip2", b"BZh", _of_standard("bzip2", _bzip2, lambda: OSError)),
    _Format("xz", b"\xfd7zXZ\0", _of_standard("xz", _xz, _lzma_error)),
    _Format("lzma", b"\x5d\0\0", _of_standard("lzma", _xz, _lzma_error)),
    _Format("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    _Format("lz4", b"\x02\x21\x4c\x18", _lz4),
    _Format("LZO", b"\x89LZO\0\r\n\x1a\n", _lzo),
)
