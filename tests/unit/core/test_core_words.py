# SPDX-License-Identifier: MIT
"""Lists of u64, against the same in plain Python."""

from __future__ import annotations

import random
import sys
from array import array

import pytest

from pyxc._core import (
    byteswap64,
    consecutive_words,
    extent_words,
    number_frames,
    pick_words,
    renumber_entries,
    run_of,
    select_frames,
    take_tops,
)

MOST = 2**64 - 1
ABSENT, FOREIGN, IDENTITY = 2**64 - 1, 1 << 63, 1 << 62


def sample(seed: int, length: int) -> array[int]:
    choice = random.Random(seed)
    kinds = [0, 0, FOREIGN, IDENTITY, FOREIGN | IDENTITY]
    words = [choice.randrange(2**40) | choice.choice(kinds) for _ in range(length)]
    return array("Q", [choice.choice([word, word, ABSENT]) for word in words])


@pytest.mark.parametrize("length", [0, 1, 7, 512, 100_000])
def test_selection_agrees_with_python(length: int) -> None:
    entries = sample(length, length)
    plain = [entry for entry in entries if entry < IDENTITY]
    foreign = sum(entry >= FOREIGN and entry != ABSENT for entry in entries)
    identity = sum(IDENTITY <= entry < FOREIGN for entry in entries)
    frames = array("Q", [9] * (len(plain) + 5))
    assert select_frames(entries, frames, 3) == (len(plain), entries.count(ABSENT), foreign, identity)
    assert frames.tolist() == [9] * 3 + plain + [9] * 2


def test_selection_fills_the_list_to_its_end_and_no_further() -> None:
    frames = array("Q", [0, 0])
    assert select_frames(array("Q", [1, ABSENT, 2]), frames, 0)[0] == 2
    with pytest.raises(ValueError, match="no space"):
        select_frames(array("Q", [1, 2]), frames, 1)
    for place in (-1, 3):
        with pytest.raises(ValueError):
            select_frames(array("Q", [1]), frames, place)


def test_selection_takes_any_alignment() -> None:
    entries = memoryview(bytearray(b"." + array("Q", [5, ABSENT, 6]).tobytes()))[1:]
    target = bytearray(1 + 16)
    assert select_frames(entries, memoryview(target)[1:], 0) == (2, 1, 0, 0)
    assert array("Q", bytes(target[1:])).tolist() == [5, 6]


@pytest.mark.parametrize("first", [0, 1, 2**40, MOST - 512])
@pytest.mark.parametrize("count", [0, 1, 513])
def test_consecutive_numbers_are_those_of_a_range(first: int, count: int) -> None:
    assert array("Q", consecutive_words(first, count)).tolist() == list(range(first, first + count))


@pytest.mark.parametrize(("first", "count"), [(0, -1), (MOST, 2), (MOST - 5, 7), (1, sys.maxsize)])
def test_numbers_that_cannot_be_in_a_list(first: int, count: int) -> None:
    with pytest.raises((ValueError, MemoryError)):
        consecutive_words(first, count)


@pytest.mark.parametrize("firsts", [[], [5], [1024, 0, 512]])
@pytest.mark.parametrize("order", [0, 9])
def test_frames_of_extents(firsts: list[int], order: int) -> None:
    size = 1 << order
    expected = [frame for first in firsts for frame in range(first, first + size)]
    assert array("Q", extent_words(array("Q", firsts), order)).tolist() == expected


@pytest.mark.parametrize("order", [-1, 19, 64])
def test_extents_that_xen_does_not_have(order: int) -> None:
    with pytest.raises(ValueError, match="order"):
        extent_words(array("Q", [0]), order)


@pytest.mark.parametrize("length", [0, 1, 513])
def test_swapping_agrees_with_python(length: int) -> None:
    words = sample(length, length)
    expected = words[:]
    expected.byteswap()
    byteswap64(words)
    assert words == expected
    unaligned = bytearray(b"." + words.tobytes())
    byteswap64(memoryview(unaligned)[1:])
    expected.byteswap()
    assert unaligned[1:] == expected.tobytes()


def test_what_is_no_list_of_u64_is_refused() -> None:
    with pytest.raises(ValueError):
        byteswap64(bytearray(9))
    with pytest.raises(ValueError):
        select_frames(bytes(9), bytearray(8), 0)
    with pytest.raises(ValueError):
        select_frames(bytes(8), bytearray(9), 0)
    with pytest.raises(BufferError):
        byteswap64(bytes(8))
    with pytest.raises(TypeError):
        byteswap64([1])  # type: ignore[arg-type]


def test_page_table_entries_get_the_numbers_of_a_table() -> None:
    table = array("Q", bytes(8 * 16))
    number_frames(array("Q", [7, ABSENT, 3, 16, FOREIGN | 5]), table, 100)
    assert table.tolist() == [0, 0, 0, 103, 0, 0, 0, 101, *[0] * 8]
    nx, before = 1 << 63, 9 << 12
    entries = array("Q", [7 << 12 | nx | 0x67, before, 3 << 12 | 1])
    unaligned = memoryview(bytearray(b"." + entries.tobytes()))[1:]
    assert renumber_entries(unaligned, table) == []
    assert array("Q", bytes(unaligned)).tolist() == [100 << 12 | nx | 0x67, before, 102 << 12 | 1]


def test_entries_without_a_number_are_reported_and_nothing_is_replaced() -> None:
    table = array("Q", [0, 5])
    for bad in (1, 2 << 12 | 1, 0xF_FFFF_FFFF << 12 | 1, 1 << 12 | 0x81):
        entries = array("Q", [1 << 12 | 1, 0, bad])
        assert renumber_entries(entries, table, 0x80) == [2]
        assert entries.tolist() == [1 << 12 | 1, 0, bad]
    with pytest.raises(ValueError, match="multiple of 8"):
        renumber_entries(bytearray(9), table)
    with pytest.raises(BufferError):
        renumber_entries(bytes(8), table)
    with pytest.raises(BufferError):
        number_frames(table, bytes(8), 0)


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ([5], [1]),
        ([5, 6, 7, 9, 8, 9], [3, 1, 2]),
        ([3, 3, 4], [1, 2]),
        ([2**64 - 2, 2**64 - 1, 0, 1], [2, 2]),
        (range(2**40, 2**40 + 1000), [1000]),
    ],
)
def test_words_that_follow_one_another(words: list[int], runs: list[int]) -> None:
    found, start = [], 0
    while start < len(words):
        found.append(run_of(array("Q", words), start))
        start += found[-1]
    assert found == runs


def test_picked_words() -> None:
    table, picked = array("Q", [10, 11, ABSENT, 13]), array("Q", bytes(8 * 5))
    pick_words(table, array("Q", [3, 0, 2, 4, ABSENT]), picked)
    assert picked.tolist() == [13, 10, ABSENT, ABSENT, ABSENT]
    unaligned = memoryview(bytearray(17))[1:]
    pick_words(memoryview(b"." + table.tobytes())[1:], array("Q", [1, 3]), unaligned)
    assert array("Q", bytes(unaligned)).tolist() == [11, 13]


def test_the_highest_bytes_of_words() -> None:
    words = array("Q", [0xF0 << 56 | 5, 1 << 55 | 8, ABSENT])
    assert take_tops(words) == (b"\xf0\0\xff", 2**56 - 1)
    assert words.tolist() == [5, 1 << 55 | 8, 2**56 - 1]
    assert take_tops(array("Q", [6 << 56 | 1, 4])) == (b"\6\0", 5)


def test_what_these_refuse() -> None:
    words = array("Q", [1, 2])
    for place in (-1, 2):
        with pytest.raises(ValueError, match="not a place"):
            run_of(words, place)
    with pytest.raises(ValueError, match="space for 1"):
        pick_words(words, words, array("Q", [0]))
    with pytest.raises(BufferError):
        pick_words(words, words, bytes(16))
    with pytest.raises(BufferError):
        take_tops(bytes(8))
