# SPDX-License-Identifier: MIT
"""Page tables of a PV guest: which ones its initial mapping needs, and their entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pyxc._core import PAGE_SIZE
from pyxc.abi.arch.x86 import PTE_ACCESSED, PTE_DIRTY, PTE_PRESENT, PTE_USER, PTE_WRITABLE

_ENTRIES = PAGE_SIZE // 8
_INDEX_BITS = 9
_PAGE_BITS = 12
_CANONICAL = (1 << 48) - 1
_READ_ONLY = PTE_PRESENT | PTE_ACCESSED
_PAGE = _READ_ONLY | PTE_WRITABLE
_TABLE = _PAGE | PTE_DIRTY | PTE_USER
_TABLE_OF_PAE = PTE_PRESENT
"""The flags of an entry in the top table of three levels: the processor reserves the other bits."""


class Span(NamedTuple):
    """`pages` pages, from pfn `pfn` on, mapped from virtual address `start` on."""

    start: int
    pfn: int
    pages: int

    @property
    def stop(self) -> int:
        return self.start + self.pages * PAGE_SIZE


class Table(NamedTuple):
    """A page table: its level, 1 for one whose entries name pages, and its index in the level."""

    level: int
    number: int


def needed(levels: int, spans: Sequence[Span]) -> list[Table]:
    """The tables that map some spans: the top one first, those of a level by address."""
    found = []
    for level in range(levels, 0, -1):
        shift = _PAGE_BITS + _INDEX_BITS * level
        numbers: set[int] = set()
        for span in spans:
            start = _plain(span.start)
            numbers.update(range(start >> shift, (start + span.pages * PAGE_SIZE - 1 >> shift) + 1))
        found += [Table(level, number) for number in sorted(numbers)]
    return found


def contents(
    levels: int, spans: Sequence[Span], pfns: dict[Table, int], frames: Sequence[int]
) -> Iterator[tuple[int, list[int]]]:
    """The pfn of each table, and its entries; `frames` names the machine frame of each pfn.

    A page that is itself a table is mapped read-only: Xen forbids writing to it.
    """
    tables = frozenset(pfns.values())
    for table, pfn in pfns.items():
        if table.level == 1:
            yield pfn, _pages(table.number, spans, tables, frames)
        else:
            flags = _TABLE_OF_PAE if table.level == levels == 3 else _TABLE
            yield pfn, _tables(table, flags, pfns, frames)


def _pages(index: int, spans: Sequence[Span], tables: frozenset[int], frames: Sequence[int]) -> list[int]:
    entries = [0] * _ENTRIES
    first = index * _ENTRIES
    for span in spans:
        start = _plain(span.start) >> _PAGE_BITS
        here = range(max(first, start), min(first + _ENTRIES, start + span.pages))
        if here:
            pfns = range(here.start + span.pfn - start, here.stop + span.pfn - start)
            found = [frame << _PAGE_BITS | _PAGE for frame in frames[pfns.start : pfns.stop]]
            for pfn in tables.intersection(pfns):
                found[pfn - pfns.start] = frames[pfn] << _PAGE_BITS | _READ_ONLY
            entries[here.start - first : here.stop - first] = found
    return entries


def _tables(table: Table, flags: int, pfns: dict[Table, int], frames: Sequence[int]) -> list[int]:
    """Entries of a table of tables. The top table of three levels has four, in a page of its own."""
    entries = [0] * _ENTRIES
    for below, pfn in pfns.items():
        upper, place = divmod(below.number, _ENTRIES)
        if below.level + 1 == table.level and upper == table.number:
            entries[place] = frames[pfn] << _PAGE_BITS | flags
    return entries


def _plain(address: int) -> int:
    """A virtual address without its sign extension."""
    return address & _CANONICAL
