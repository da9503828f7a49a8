# SPDX-License-Identifier: MIT
"""Kernels as they are stored: compressed, and as a bzImage."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable

import pytest

FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": lambda data: bytes(pytest.importorskip("bz2").compress(data)),
    "xz": lambda data: _lzma(data, "FORMAT_XZ"),
    "lzma": lambda data: _lzma(data, "FORMAT_ALONE"),
}
"""Those of the standard library; a test of one that this Python was built without is skipped."""


def _lzma(data: bytes, form: str) -> bytes:
    lzma = pytest.importorskip("lzma")
    return bytes(lzma.compress(data, getattr(lzma, form)))


def bzimage(payload: bytes, setup_sectors: int = 4, version: int = 0x020F) -> bytes:
    """What Linux's build makes of a compressed kernel: setup, loader, payload, and more after it."""
    loader = b"\x90" * 100
    head = bytearray((1 + setup_sectors) * 512)
    head[0x1F1] = setup_sectors
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, version)
    struct.pack_into("<II", head, 0x248, len(loader), len(payload))
    return bytes(head) + loader + payload + b"\0" * 32
