# SPDX-License-Identifier: MIT
"""u64 as the simulated machine has them in memory: in its own byte order, whatever that of this process."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from typing import Literal


class Words:
    """Between numbers and the bytes of a machine with one byte order ("little" or "big")."""

    def __init__(self, byteorder: Literal["little", "big"]) -> None:
        self._swapped = byteorder != sys.byteorder

    def pack(self, words: Iterable[int]) -> bytes:
        """Numbers as the machine writes them."""
        return self._in_order(array("Q", words)).tobytes()

    def unpack(self, data: bytes | memoryview) -> array[int]:
        """What the machine wrote, as numbers."""
        return self._in_order(array("Q", bytes(data)))

    def _in_order(self, cells: array[int]) -> array[int]:
        if self._swapped:
            cells.byteswap()
        return cells
