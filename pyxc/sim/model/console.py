# SPDX-License-Identifier: MIT
"""The hypervisor's console ring."""

from __future__ import annotations

from typing import NamedTuple

RING_SIZE = 16384
_COUNTER = 2**32


class Piece(NamedTuple):
    """What was read, and where an incremental reading goes on."""

    data: bytes
    next_index: int


class ConsoleRing:
    """The last 16 KiB that the hypervisor printed, addressed by 32-bit counters that wrap around."""

    def __init__(self) -> None:
        self._data = bytearray(RING_SIZE)
        self._produced = 0
        self._consumed = 0

    def print(self, text: str) -> None:
        """Append text; what no longer fits in the ring is lost from its beginning."""
        for byte in text.encode("ascii"):
            self._data[self._produced % RING_SIZE] = byte
            self._produced = (self._produced + 1) % _COUNTER
            if (self._produced - self._consumed) % _COUNTER > RING_SIZE:
                self._consumed = (self._produced - RING_SIZE) % _COUNTER

    def read(self, limit: int, incremental: bool = False, index: int = 0) -> Piece:
        """At most `limit` bytes, the oldest first, or from `index` on when that is still in the ring."""
        start = self._consumed
        if incremental and 0 < (index - start) % _COUNTER <= (self._produced - start) % _COUNTER:
            start = index
        count = min(limit, (self._produced - start) % _COUNTER)
        data = bytes(self._data[(start + offset) % RING_SIZE] for offset in range(count))
        return Piece(data, (start + count) % _COUNTER)

    def clear(self, index: int) -> None:
        """Forget what lies before an index that read() gave."""
        self._consumed = index
