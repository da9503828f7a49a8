# SPDX-License-Identifier: MIT
"""What dumps are made from: the pages of a guest, which may run or be in another dump."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

AT_ONCE = 256
"""Pages that are read at once."""


class PagesSource(Protocol):
    """A guest's pages: `gfns` ascend, and of a PV guest `frames` are their machine frames."""

    gfns: array[int]
    frames: array[int]
    is_hvm: bool
    bits: int

    @property
    def contexts(self) -> Sequence[Mapping[str, int]]: ...

    def pages(self, first: int, count: int) -> bytes:
        """The contents of some pages, by their places in `gfns`."""


def pieces(source: PagesSource) -> Iterator[bytes]:
    """All pages."""
    total = len(source.gfns)
    for first in range(0, total, AT_ONCE):
        yield source.pages(first, min(AT_ONCE, total - first))


def runs(numbers: array[int]) -> Iterator[range]:
    """Ascending numbers as ranges without a hole."""
    start, stop = 0, len(numbers)
    while start < stop:
        first, size = numbers[start], 1
        # Twice as far each time, then half as far: most runs are long.
        while start + size < stop and numbers[start + size] - first == size:
            size *= 2
        low, high = start + size // 2, min(start + size, stop)
        while low + 1 < high:
            middle = (low + high) // 2
            if numbers[middle] - first == middle - start:
                low = middle
            else:
                high = middle
        start = low + 1
        yield range(first, numbers[low] + 1)
