# SPDX-License-Identifier: MIT
"""The layout of a new guest's memory: what is written where, and the extents to allocate."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from pyxc import errors
from pyxc._core import PAGE_SIZE, run_of

if TYPE_CHECKING:  # a guest that is restored has no kernel
    from pyxc.guest.contents import Data
    from pyxc.guest.elf import Elf

ORDERS = (18, 9, 0)
"""Extents of 1 GiB, 2 MiB and 4 KiB."""


class Piece(NamedTuple):
    """Bytes for a guest physical address; zeros follow them, up to `size` bytes in all."""

    address: int
    data: Data
    size: int = 0

    @property
    def stop(self) -> int:
        return self.address + max(self.size, len(self.data))

    @property
    def frames(self) -> range:
        """The frames that it covers."""
        return range(self.address // PAGE_SIZE, pages(self.stop))

    def __repr__(self) -> str:
        return f"<Piece of {self.stop - self.address} bytes at {self.address:#x}>"


class Run(NamedTuple):
    """`extents` of 2**order pages each, from frame `first` on."""

    first: int
    order: int
    extents: int


def pages(size: int) -> int:
    """The number of pages for a number of bytes."""
    return -(-size // PAGE_SIZE)


def aligned(address: int) -> int:
    """The next address at which a page begins."""
    return pages(address) * PAGE_SIZE


def segments(elf: Elf, offset: int = 0) -> list[Piece]:
    """The segments of a kernel, `offset` bytes above their physical addresses."""
    return [Piece(part.paddr + offset, part.data, part.size) for part in elf.segments]


def runs(frames: range, orders: Iterable[int] = ORDERS) -> Iterator[Run]:
    """Consecutive frames in extents as large as their alignment allows.

    >>> list(runs(range(1, 1024), (9, 0)))
    [Run(first=1, order=0, extents=511), Run(first=512, order=9, extents=1)]
    """
    order, *smaller = orders
    start = -(-frames.start >> order) << order
    stop = frames.stop >> order << order
    if start >= stop:
        start = stop = frames.stop
    if frames.start < start and smaller:
        yield from runs(range(frames.start, start), smaller)
    if start < stop:
        yield Run(start, order, (stop - start) >> order)
    if stop < frames.stop:
        yield from runs(range(stop, frames.stop), smaller)


def consecutive(frames: array[int]) -> Iterator[range]:
    """The same frames as ranges."""
    start = 0
    while start < len(frames):
        size = run_of(frames, start)
        yield range(frames[start], frames[start] + size)
        start += size


def check_apart(pieces: Iterable[Piece]) -> None:
    """DecodeError for pieces that overlap."""
    ordered = sorted(pieces, key=lambda piece: piece.address)
    for piece, following in zip(ordered, ordered[1:]):
        if piece.stop > following.address:
            raise errors.DecodeError("two segments of the kernel are in the same place")
