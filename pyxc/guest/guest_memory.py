# SPDX-License-Identifier: MIT
"""The memory of a guest that is being built: allocated and written in pieces of bounded size."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyxc import errors
from pyxc._core import PAGE_SIZE, ForeignMap
from pyxc.abi import memory
from pyxc.domain.extents import Extents
from pyxc.domain.mapping import Mapping
from pyxc.guest.placing import ORDERS, Piece, Run, runs

if TYPE_CHECKING:
    from pyxc.domain.vnuma import Vnuma

PAGES_AT_ONCE = 1 << 18
"""Pages allocated between two reports of progress, 1 GiB."""
_EXTENTS_AT_ONCE = 1 << 16
_MAPPED_AT_ONCE = 1 << 10
"""Pages mapped at once for writing, 4 MiB."""

Progress = Callable[[int, int], object]
"""Called with the number of pages that are done, and of all pages."""


def populate(
    mapping: Mapping, frames: range, orders: Sequence[int] = ORDERS, flags: int = 0
) -> Iterator[tuple[Run, array[int]]]:
    """Allocate memory of a domain at consecutive frames, in extents as large as Xen has them.

    Yields each run of extents when it is allocated, with the frames that Xen returns, one for each extent:
    machine frames of a PV domain. HypercallError ENOMEM: the domain may not own as much, or the host does not
    have it.
    """
    for run in runs(frames, orders):
        yield from _given(mapping, run, orders, flags)


def by_node(parts: Iterable[range], vnuma: Vnuma | None) -> Iterator[tuple[range, int]]:
    """Parts of an address space cut where another virtual node begins, each with its mem_flags."""
    places = sorted(vnuma.ranges) if vnuma else []
    for part in parts:
        at = part.start
        for place in places:
            start = max(at, place.start // PAGE_SIZE)
            stop = min(part.stop, place.end // PAGE_SIZE)
            if start < stop:
                yield range(at, start), 0
                yield range(start, stop), memory.node_flags(place.node)
                at = stop
        yield range(at, part.stop), 0


def _given(mapping: Mapping, run: Run, orders: Sequence[int], flags: int) -> Iterator[tuple[Run, array[int]]]:
    size = 1 << run.order
    at_once = min(_EXTENTS_AT_ONCE, PAGES_AT_ONCE >> run.order)
    stop = run.first + run.extents * size
    for first in range(run.first, stop, at_once * size):
        given = Extents(mapping, run.order, at_once, flags)
        wanted = array("Q", range(first, min(stop, first + at_once * size), size))
        short = _give(given, wanted, run.order)
        if given.done:
            yield Run(first, run.order, len(given.done)), given.done
        if short:
            rest = range(first + len(given.done) * size, stop)
            yield from populate(mapping, rest, orders[orders.index(run.order) + 1 :], flags)
            return


def _give(given: Extents, wanted: array[int], order: int) -> bool:
    """Whether Xen lacks extents of this size, and may have the memory in smaller ones."""
    try:
        given.reserve(memory.POPULATE_PHYSMAP, wanted)
    except errors.HypercallError:
        if not given.short or not order:
            raise
        return True
    return False


@contextmanager
def lent(mapped: ForeignMap) -> Iterator[memoryview]:
    """The memory of a map, for others to fill or to send. The map can be closed even if these fail: views of
    it that they leave in the traceback are dropped."""
    with memoryview(mapped) as view:
        try:
            yield view
        except BaseException as error:
            from traceback import clear_frames

            clear_frames(error.__traceback__)
            raise


def write(mapping: Mapping, pieces: Iterable[Piece], frames: Sequence[int]) -> None:
    """Write pieces into a domain's memory; `frames` names the frame of each page of its address space.

    range(2**52) for a domain whose frames are named by that, the p2m for a PV domain.
    """
    for parts in _together(pieces):
        wanted = array("Q")
        for _, pages in parts:
            wanted.extend(frames[pages.start : pages.stop])
        with mapping.map(wanted, writable=True) as mapped, memoryview(mapped) as view:
            start = 0
            for piece, pages in parts:
                with view[start : start + len(pages) * PAGE_SIZE] as place:
                    _fill(place, piece, pages.start * PAGE_SIZE)
                start += len(pages) * PAGE_SIZE


def _together(pieces: Iterable[Piece]) -> Iterator[list[tuple[Piece, range]]]:
    """The pages of each piece, in parts that are mapped at once."""
    parts, space = [], _MAPPED_AT_ONCE
    for piece in pieces:
        left = piece.frames
        while left:
            parts.append((piece, left[:space]))
            left, space = left[space:], space - len(parts[-1][1])
            if not space:
                yield parts
                parts, space = [], _MAPPED_AT_ONCE
    if parts:
        yield parts


def _fill(view: memoryview, piece: Piece, address: int) -> None:
    """The part of a piece that falls into the memory at an address."""
    start = max(piece.address, address)
    stop = min(piece.stop, address + len(view))
    data = piece.data[start - piece.address : stop - piece.address]
    place = start - address
    view[place : place + len(data)] = data
    zeros = stop - start - len(data)
    if zeros:
        view[stop - address - zeros : stop - address] = bytes(zeros)
