# SPDX-License-Identifier: MIT
"""Bytes as `hexdump -C` shows them."""

from __future__ import annotations

from collections.abc import Iterator

_WIDTH = 16


def lines(address: int, data: bytes) -> Iterator[str]:
    """Lines of 16 bytes each; "*" stands for lines that repeat the one before."""
    last, repeats = b"", False
    for offset in range(0, len(data), _WIDTH):
        row = data[offset : offset + _WIDTH]
        if row != last:
            yield f"{address + offset:012x}  {_in_hex(row)}  |{_as_text(row)}|"
        elif not repeats:
            yield "*"
        repeats = row == last
        last = row


def _in_hex(row: bytes) -> str:
    half = _WIDTH // 2
    return f"{row[:half].hex(' '):<23}  {row[half:].hex(' '):<23}"


def _as_text(row: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
