# SPDX-License-Identifier: MIT
"""Treemaps: a rectangle divided into rectangles whose areas are given, none of them long and thin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

_ROW_MOST = 64


class Area(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


def divided(areas: Sequence[float], whole: Area) -> Iterator[Area]:
    """An area for each number, in proportion, in the same order; squarified (Bruls, Huizing, van Wijk, 2000).

    Numbers from large to small give the best shapes.
    """
    left, scale = list(areas), whole.width * whole.height / (sum(areas) or 1)
    while left:
        side = min(whole.width, whole.height) or 1
        count = 1
        while count < len(left) and _worst(left[: count + 1], scale, side) <= _worst(
            left[:count], scale, side
        ):
            count += 1
        row, left = left[:count], left[count:]
        depth = sum(row) * scale / side
        yield from _row(row, scale, depth, whole)
        whole = _rest(whole, depth)


def _worst(row: Sequence[float], scale: float, side: float) -> float:
    """How far the shapes of a row along a side are from squares."""
    depth = sum(row) * scale / side
    if not depth or not min(row):
        return float("inf")
    lengths = [area * scale / depth for area in row]
    return max(max(length / depth, depth / length) for length in lengths)


def _row(row: Sequence[float], scale: float, depth: float, whole: Area) -> Iterator[Area]:
    x, y, width, height = whole
    for area in row:
        length = area * scale / depth if depth else 0
        if width >= height:
            yield Area(x, y, depth, length)
            y += length
        else:
            yield Area(x, y, length, depth)
            x += length


def _rest(whole: Area, depth: float) -> Area:
    x, y, width, height = whole
    if width >= height:
        return Area(x + depth, y, max(0, width - depth), height)
    return Area(x, y + depth, width, max(0, height - depth))
