# SPDX-License-Identifier: MIT
"""Files that may be compressed, read from the beginning to the end."""

from __future__ import annotations

import gzip
import os
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from pyxc import DecodeError, MissingLibrary
from pyxc.files.compressed import CompressedFile

CONTENT = b"Xen saved domain" * 50_000


def _zstd(data: bytes) -> bytes:
    library = pytest.importorskip("zstandard")
    return bytes(library.ZstdCompressor().compress(data))


def _lz4(data: bytes) -> bytes:
    return bytes(pytest.importorskip("lz4.frame").compress(data))


FORMATS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": _zstd, "lz4": _lz4}
EACH = pytest.mark.parametrize("compression", FORMATS)


def content(file: CompressedFile, size: int = 10_000) -> bytes:
    pieces = []
    while data := file.read(size):
        assert len(data) <= size
        pieces.append(data)
    return b"".join(pieces)


@pytest.mark.parametrize("data", [b"", b"X", b"Xen", CONTENT])
def test_a_file_that_is_not_compressed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with CompressedFile(tmp_path / "file") as file:
        assert (file.compression, content(file)) == (None, data)


@EACH
def test_a_compressed_file(tmp_path: Path, compression: str) -> None:
    (tmp_path / "file").write_bytes(FORMATS[compression](CONTENT))
    with CompressedFile(tmp_path / "file") as file:
        assert (file.compression, content(file)) == (compression, CONTENT)


@EACH
def test_two_that_were_put_together(tmp_path: Path, compression: str) -> None:
    """As `cat a.gz b.gz` does."""
    compress, half = FORMATS[compression], len(CONTENT) // 2
    (tmp_path / "file").write_bytes(compress(CONTENT[:half]) + compress(CONTENT[half:]))
    with CompressedFile(tmp_path / "file") as file:
        assert content(file) == CONTENT


@EACH
def test_damage(tmp_path: Path, compression: str) -> None:
    data = bytearray(FORMATS[compression](CONTENT))
    data[12:40] = b"\xff" * 28
    (tmp_path / "file").write_bytes(data)
    complaint = f"the {compression} data is damaged"
    with pytest.raises(DecodeError, match=complaint), CompressedFile(tmp_path / "file") as file:
        content(file)


@pytest.mark.parametrize("compression", ["gzip", "lz4"])
def test_a_file_that_is_cut_off(tmp_path: Path, compression: str) -> None:
    (tmp_path / "file").write_bytes(FORMATS[compression](CONTENT)[:-8])
    with CompressedFile(tmp_path / "file") as file, pytest.raises(DecodeError, match="is damaged"):
        content(file)


@EACH
def test_what_grows_a_thousandfold_takes_no_more_memory(tmp_path: Path, compression: str) -> None:
    (tmp_path / "file").write_bytes(FORMATS[compression](bytes(64 << 20)))
    total = 0
    with CompressedFile(tmp_path / "file") as file:
        file.read(1)
        tracemalloc.start()
        while data := file.read(1 << 16):
            total += len(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert total == (64 << 20) - 1
    assert peak < 8 << 20


@pytest.mark.parametrize(("compression", "package"), [("zstd", "zstandard"), ("lz4", "lz4")])
def test_a_library_that_is_not_installed_is_named(
    tmp_path: Path, compression: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    magic = {"zstd": b"\x28\xb5\x2f\xfd", "lz4": b"\x04\x22\x4d\x18"}
    (tmp_path / "file").write_bytes(magic[compression] + bytes(8))
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    complaint = f"{compression} needs the Python package {package} .*python3-{package}"
    with pytest.raises(MissingLibrary, match=complaint):
        CompressedFile(tmp_path / "file")


def test_a_pipe_that_brings_a_byte_at_a_time(tmp_path: Path) -> None:
    path, data = tmp_path / "pipe", gzip.compress(b"piecemeal")
    os.mkfifo(path)

    def write() -> None:
        with open(path, "wb", buffering=0) as pipe:
            pipe.writelines(bytes([byte]) for byte in data)

    writer = threading.Thread(target=write)
    writer.start()
    with CompressedFile(path) as file:
        assert (file.compression, content(file)) == ("gzip", b"piecemeal")
    writer.join()


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        CompressedFile(tmp_path / "file")
