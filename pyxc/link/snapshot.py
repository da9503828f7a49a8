# SPDX-License-Identifier: MIT
"""Memory in a recording: without addresses, packed."""

from __future__ import annotations

import binascii
import sys
import zlib
from array import array
from typing import Any

from pyxc._core import Arena, Pool


class Snapshot:
    """The arena of a call's arguments, as text without addresses; empty if there is none.

    Its words are in the hypervisor's byte order.
    """

    def __init__(self, arena: Arena | None, byteorder: str) -> None:
        self.address = 0 if arena is None else arena.address
        self.size = 0 if arena is None else arena.size
        self._view = memoryview(b"") if arena is None else arena.view
        self._swapped = byteorder != sys.byteorder

    @classmethod
    def of(cls, pool: Pool, arguments: tuple[int, ...], byteorder: str) -> Snapshot:
        arenas = map(pool.arena_at, arguments)
        return cls(next((arena for arena in arenas if arena is not None), None), byteorder)

    def relative(self, argument: int) -> int | list[str | int]:
        """An argument, or ["@", offset] when it points into the arena."""
        return ["@", argument - self.address] if 0 <= argument - self.address < self.size else argument

    def read(self) -> dict[str, Any]:
        """The contents up to the last byte that is not zero, and the positions of handles."""
        words = self._in_order(array("Q", bytes(self._view)))
        handles = [position for position, word in enumerate(words) if 0 <= word - self.address < self.size]
        for position in handles:
            words[position] -= self.address
        return {"bytes": packed(self._in_order(words).tobytes().rstrip(b"\0")), "handles": handles}

    def write(self, content: dict[str, Any]) -> None:
        """Write the contents from a recording to the arena."""
        data = unpacked(content["bytes"], self.size)
        words = self._in_order(array("Q", data.ljust(self.size, b"\0")))
        for position in content["handles"]:
            words[position] += self.address
        self._view[:] = self._in_order(words).tobytes()

    def _in_order(self, words: array[int]) -> array[int]:
        """Convert between the hypervisor's byte order and this machine's, in place."""
        if self._swapped:
            words.byteswap()
        return words


def packed(data: bytes) -> str:
    return binascii.b2a_base64(zlib.compress(data, 9), newline=False).decode() if data else ""


def unpacked(text: str, most: int) -> bytes:
    """Unpack at most `most` bytes; ValueError for more, and for malformed text."""
    if not text:
        return b""
    try:
        data = zlib.decompressobj().decompress(binascii.a2b_base64(text), most + 1)
    except zlib.error as error:
        raise ValueError("not packed") from error
    if len(data) > most:
        raise ValueError(f"more than {most} bytes")
    return data
