# SPDX-License-Identifier: MIT
"""The hypervisor's console ring."""

from __future__ import annotations

from typing import NamedTuple

RING_SIZE = 16384
_COUNTER = 2**32


class Piece(NamedTuple):
    """The text, and the next index of an incremental reading."""

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
        data = text.encode()
        self.advance(max(0, len(data) - RING_SIZE))
        data = data[-RING_SIZE:]
        start = self._produced % RING_SIZE
        first = data[: RING_SIZE - start]
        self._data[start : start + len(first)] = first
        self._data[: len(data) - len(first)] = data[len(first) :]
        self.advance(len(data))

    def advance(self, count: int) -> None:
        """Count text that is in its place, or that what is printed next pushes out."""
        held = (self._produced - self._consumed) % _COUNTER + count
        self._produced = (self._produced + count) % _COUNTER
        self._consumed = (self._produced - min(held, RING_SIZE)) % _COUNTER

    def read(self, limit: int, incremental: bool = False, index: int = 0) -> Piece:
        """At most `limit` bytes, the oldest first, or from `index` on when that is still in the ring."""
        start = self._consumed
        if incremental and 0 < (index - start) % _COUNTER <= (self._produced - start) % _COUNTER:
            start = index
        count = min(limit, (self._produced - start) % _COUNTER)
        place = start % RING_SIZE
        data = bytes((self._data[place:] + self._data[:place])[:count])
        return Piece(data, (start + count) % _COUNTER)

    def clear(self, index: int) -> None:
        """Forget what lies before an index that read() gave."""
        self._consumed = index
