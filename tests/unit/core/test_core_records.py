# SPDX-License-Identifier: MIT
"""Records that the core makes in place are tuples like any others."""

from __future__ import annotations

import gc
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from pyxc._core import RecordReader


class Row(NamedTuple):
    words: tuple[int, ...]
    number: int
    absent: int | None


READER = RecordReader(Row, 4096, ((0, "I", 900), (3600, "Q", 1), None))


def items(row: Row) -> int:
    """How many items a row has already, without touching those that it has not."""
    return sum(thing is not Row for thing in gc.get_referents(row))


@contextmanager
def watched() -> Iterator[list[int]]:
    """How many items rows have when a collection begins, which is as often as possible."""
    seen: list[int] = []

    def look(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            seen.extend(items(thing) for thing in gc.get_objects() if type(thing) is Row)

    threshold = gc.get_threshold()
    gc.callbacks.append(look)
    gc.set_threshold(1)
    try:
        yield seen
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(look)


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="its collector does not start so soon"
)
def test_the_collector_never_finds_a_record_that_is_not_complete() -> None:
    data = bytes(4096)
    collections = gc.get_stats()[0]["collections"]
    with watched() as seen:
        for _ in range(5):
            READER.one(data)
            object.__new__(type("Anything", (), {}))  # something to be collected
    assert gc.get_stats()[0]["collections"] > collections
    assert set(seen) <= {len(Row._fields)}


def test_the_collector_finds_a_record_that_is_complete() -> None:
    record = READER.one(bytes(4096))
    assert gc.is_tracked(record)
    assert all(any(thing is item for thing in gc.get_referents(record)) for item in record)


def test_a_record_is_equal_to_a_tuple_also_as_a_key() -> None:
    record = READER.one(bytes(range(256)) * 16)
    same = Row(*record)
    assert (record, hash(record)) == (same, hash(same))
    assert hash(record) == hash(tuple(record))
    assert {same: "found"}[record] == "found"
