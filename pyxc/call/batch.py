# SPDX-License-Identifier: MIT
"""One operation many times in one hypercall: a multicall, laid out column by column."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pyxc._core import Arena, lay_batch
from pyxc.abi.layout import Layout
from pyxc.abi.multicall import ENTRY_STRUCT
from pyxc.abi.operation import MULTICALL
from pyxc.call.plan import Plan
from pyxc.call.records import Reader
from pyxc.link import Link

AT_ONCE = 512

Column = Sequence[int] | int


class Batch(NamedTuple):
    """The results: for each call its result (or -errno), its structure, and its buffers by name.

    The structures are bytes in `answers`, or records of a reader in `records`.
    """

    results: list[int]
    answers: list[bytes]
    records: list[Any]
    layout: Layout
    buffers: Mapping[str, list[bytes]]


def run(
    link: Link,
    plan: Plan,
    count: int,
    columns: Mapping[str, Column],
    reader: Reader[Any] | None,
    refuse: Callable[[int], Exception],
) -> Batch:
    """Issue `count` calls, AT_ONCE in a multicall. `refuse` creates the exception for a failed multicall.

    `reader` creates records directly from the memory of whole structures.
    """
    whole = Batch([], [], [], plan.layout, {name: [] for name in columns if name in plan.layout.handles})
    for start in range(0, count, AT_ONCE):
        stop = min(count, start + AT_ONCE)
        part = {
            name: column if isinstance(column, int) else column[start:stop]
            for name, column in columns.items()
        }
        failed = _Part(link, plan, stop - start, part).run(whole, reader)
        if failed:
            raise refuse(-failed)
    return whole


def _padded(size: int) -> int:
    """Structures and buffers of a batch begin at whole u64s."""
    return (size + 7) & ~7


class _Part:
    """One multicall. Its arena holds the entries, then the structures, then each handle's buffers."""

    def __init__(self, link: Link, plan: Plan, count: int, columns: Mapping[str, Column]) -> None:
        self._link = link
        self._plan = plan
        self._count = count
        self._columns = columns
        self._swapped = link.byteorder != sys.byteorder
        self._stride = _padded(plan.size)
        self._entry = ENTRY_STRUCT.at(plan.interface)
        self._body = self._entry.size * count
        self._tail = self._body + self._stride * count
        self._sizes: dict[str, int] = {}
        for name, column in columns.items():
            if name in plan.layout.handles:
                if not isinstance(column, int):
                    raise TypeError(f"{name} is a buffer: its column is one size for all calls")
                self._sizes[name] = _padded(plan.buffer_size(name, column))

    def run(self, whole: Batch, reader: Reader[Any] | None) -> int:
        total = self._tail + sum(self._sizes.values()) * self._count
        arena = self._link.pool.take(total)
        try:
            self._fill(arena)
            failed = self._link.hypercall(MULTICALL, arena.address, self._count)
            if failed == 0:
                self._collect(arena.view, whole, reader)
            return failed
        finally:
            arena.release(total)

    def _fill(self, arena: Arena) -> None:
        """An int for all calls goes into the structure that is copied for each."""
        plan, at = self._plan, arena.address + self._tail
        same = dict[str, Any]()
        columns = []
        for name, column in self._columns.items():
            if name in self._sizes:
                size = self._sizes[name]
                column = range(at, at + size * self._count, size)
                at += size * self._count
            if isinstance(column, int):
                same[name] = column
            else:
                columns.append((plan.layout.offsets[name], plan.layout.sizes[name], column))
        values = plan.zero.copy()
        plan.fill(values, same)
        call = (plan.number, plan.before, plan.after)
        try:
            lay_batch(
                arena, self._count, plan.request(values), self._stride, call, tuple(columns), self._swapped
            )
        except OverflowError as error:
            raise ValueError(f"{plan.operation.full_name}: {self._misfits()}: {error}") from error

    def _misfits(self) -> str:
        """Names of the columns with values that do not fit their fields."""
        sizes = self._plan.layout.sizes
        return ", ".join(
            name
            for name, column in self._columns.items()
            if not isinstance(column, int) and not all(0 <= value < 256 ** sizes[name] for value in column)
        )

    def _collect(self, view: memoryview, whole: Batch, reader: Reader[Any] | None) -> None:
        place, every = self._entry.offsets["result"] // 8, self._entry.size // 8
        results = array("q", view[: self._body].cast("q")[place::every].tolist())
        if self._swapped:
            results.byteswap()
        whole.results.extend(results)
        starts = range(self._body, self._tail, self._stride)
        if reader is None:
            whole.answers.extend(bytes(view[start : start + self._plan.size]) for start in starts)
        elif self._stride == self._plan.size:
            whole.records.extend(reader.all(view[self._body : self._tail]))
        else:
            whole.records.extend(reader.one(view, start) for start in starts)
        at = self._tail
        for name, size in self._sizes.items():
            block = bytes(view[at : at + size * self._count])
            whole.buffers[name].extend(block[start : start + size] for start in range(0, len(block), size))
            at += len(block)
