# SPDX-License-Identifier: MIT
"""Sets of frames that are kept as runs behave as sets of numbers do."""

from __future__ import annotations

import random

from pyxc.sim.model.frame_set import FrameSet, Heap


def test_runs_agree_with_a_set_of_numbers() -> None:
    chance = random.Random(2006)
    runs, numbers = FrameSet(), set[int]()
    for _ in range(3000):
        start = chance.randrange(400)
        run = range(start, start + chance.randrange(12))
        if chance.random() < 0.5:
            runs.add(run)
            numbers.update(run)
        else:
            runs.remove(run)
            numbers.difference_update(run)
        assert list(runs) == sorted(numbers)
        assert len(runs) == len(numbers)
        assert (run.start in runs) == (run.start in numbers)
        assert runs.meets(run) == (not numbers.isdisjoint(run))
        stop = next(frame for frame in range(start, 500) if frame not in numbers)
        assert runs.stop_of(start) == stop


def test_neighbours_become_one_run() -> None:
    assert FrameSet(range(5, 7), range(9, 11), range(7, 9)).runs == [range(5, 11)]
    assert FrameSet(range(5, 7), range(8, 9)).runs == [range(5, 7), range(8, 9)]


def test_a_heap_gives_its_lowest_aligned_block() -> None:
    heap = Heap(range(3, 40))
    assert [heap.take(2), heap.take(0), heap.take(2), heap.take(5)] == [4, 3, 8, None]
    assert (heap.runs, heap.free) == ([range(12, 40)], 28)


def test_a_heap_gives_the_first_run_that_is_long_enough() -> None:
    heap = Heap(range(4), range(10, 20))
    assert [heap.take_run(5), heap.take_run(4), heap.take_run(6)] == [10, 0, None]
    assert heap.runs == [range(15, 20)]
