# SPDX-License-Identifier: MIT
"""Words as the simulated machine has them in memory: in its own byte order, whatever that of this process."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Literal

_BLOCK = 1 << 16


class Words:
    """Between numbers and the bytes of a machine with one byte order ("little" or "big")."""

    def __init__(self, byteorder: Literal["little", "big"]) -> None:
        self.byteorder = byteorder
        self._swapped = byteorder != sys.byteorder

    def pack(self, words: Iterable[int]) -> bytes:
        """Numbers as the machine writes them."""
        return self._in_order(array("Q", words)).tobytes()

    def unpack(self, data: bytes | memoryview) -> array[int]:
        """What the machine wrote, as numbers."""
        return self._in_order(array("Q", bytes(data)))

    def pack_run(self, run: range) -> bytes:
        """Consecutive numbers as the machine writes them."""
        return b"".join(self.blocks(run))

    def blocks(self, run: range) -> Iterator[bytearray]:
        """The same in pieces: all blocks of 2**16 numbers are the first one but for their upper bytes."""
        start = run.start
        while start < run.stop:
            upper, lower = divmod(start, _BLOCK)
            count = min(_BLOCK - lower, run.stop - start)
            piece = bytearray(_first_block(self.byteorder)[8 * lower : 8 * (lower + count)])
            for place, value in enumerate(upper.to_bytes(6, "little"), start=2):
                if value:
                    piece[place if self.byteorder == "little" else 7 - place :: 8] = bytes((value,)) * count
            yield piece
            start += count

    def pack32(self, words: Iterable[int]) -> bytes:
        """The same of u32."""
        return self._in_order(array("I", words)).tobytes()

    def unpack32(self, data: bytes | memoryview) -> array[int]:
        return self._in_order(array("I", bytes(data)))

    def _in_order(self, cells: array[int]) -> array[int]:
        if self._swapped:
            cells.byteswap()
        return cells


@cache
def _first_block(byteorder: Literal["little", "big"]) -> memoryview:
    return memoryview(Words(byteorder).pack(range(_BLOCK)))
