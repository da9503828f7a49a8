# SPDX-License-Identifier: MIT
"""The screen of `top` for any size of the terminal, and what keys do; drawing it is done elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pyxc.cli import columns

UNKNOWN = "n/a"
FROZEN = 2
"""The name and the state stay where the other columns are scrolled."""
_KEYS = "D:delay N:networks B:vbds V:vcpus R:repeat header S:sort Q:quit"
_NAME_MOST = 40
_SPARK_LEAST, _SPARK_MOST = 8, 30
_DELAY_LEAST_S, _DELAY_MOST_S = 0.1, 3600.0
_ENTRY_MOST = 6


class Line(NamedTuple):
    """A line of the screen; `style` is "", "bold", "header", "dim" or "alert"."""

    text: str
    style: str = ""


class Row(NamedTuple):
    """A domain: its cells in the order of the columns, and lines for below it, which keys show."""

    cells: tuple[str, ...]
    style: str = ""
    vcpus: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    disks: tuple[str, ...] = ()
    history: tuple[float, ...] = ()
    """Its cpu usage in percent, the newest last."""

    def below(self, view: View) -> Iterator[str]:
        """What the keys show below it."""
        for wanted, texts in (
            (view.vcpus, self.vcpus),
            (view.networks, self.networks),
            (view.disks, self.disks),
        ):
            yield from texts if wanted else ()


class Table(NamedTuple):
    """What there is to show at a moment. `widths` has the columns by name."""

    head: tuple[str, ...]
    widths: dict[str, int]
    rows: Sequence[Row]


@dataclass
class View:
    """What the person at the terminal chose."""

    delay_s: float
    networks: bool = False
    disks: bool = False
    vcpus: bool = False
    repeat: bool = False
    full_names: bool = False
    sorting: str | None = None
    """The name of a column; None sorts by id."""
    first: int = 0
    column: int = 0
    entry: str | None = None
    """A delay that is being typed."""

    def press(self, key: str, table: Table) -> bool:
        """What a key does, a letter or one of "UP", "DOWN", "LEFT", "RIGHT"; False to quit."""
        if self.entry is not None:
            self._type(key)
            return True
        key = key.upper()
        if key == "S":
            self.sorting = _next_sorting(self.sorting, [name for name, _ in shown_columns(table)])
        elif key == "D":
            self.entry = ""
        elif key in _SWITCHES:
            setattr(self, _SWITCHES[key], not getattr(self, _SWITCHES[key]))
        elif key in ("UP", "DOWN"):
            self.first = max(0, min(self.first + (1 if key == "DOWN" else -1), len(table.rows) - 1))
        elif key in ("LEFT", "RIGHT"):
            last = max(0, len(shown_columns(table)) - FROZEN - 1)
            self.column = max(0, min(self.column + (1 if key == "RIGHT" else -1), last))
        return key not in ("Q", "\x1b")

    def _type(self, key: str) -> None:
        entry = self.entry or ""
        if key in ("\n", "\r"):
            self._set_delay(entry)
            self.entry = None
        elif key == "\x1b":
            self.entry = None
        elif key in ("\b", "\x7f"):
            self.entry = entry[:-1]
        elif key in "0123456789." and len(entry) < _ENTRY_MOST:
            self.entry = entry + key

    def _set_delay(self, text: str) -> None:
        try:
            value = float(text)
        except ValueError:
            return
        self.delay_s = max(_DELAY_LEAST_S, min(value, _DELAY_MOST_S))


_SWITCHES = {"N": "networks", "B": "disks", "V": "vcpus", "R": "repeat"}


def _next_sorting(sorting: str | None, names: list[str]) -> str | None:
    """The column to the right, and after the last one the id again."""
    choices = [None, *names]
    where = choices.index(sorting) if sorting in choices else 0
    return choices[(where + 1) % len(choices)]


def shown_columns(table: Table) -> list[tuple[str, int]]:
    """The index of each column by name, without those of which nothing is known."""
    return [
        (name, index)
        for index, name in enumerate(table.widths)
        if index < FROZEN or any(row.cells[index] != UNKNOWN for row in table.rows)
    ]


def layout(view: View, table: Table, width: int, height: int, blocks: str) -> list[Line]:
    """The lines of a screen of a size. `blocks` are letters for low to high usage."""
    names = _name_width(view, table)
    chosen = _fitting(view, table, width - names - 1)
    left = width - names - sum(table.widths[name] + 1 for name, _ in chosen)
    spark = min(left - 1, _SPARK_MOST) if left > _SPARK_LEAST else 0
    header = Line(_header(chosen, table, names, width), "header")
    body = height - len(table.head) - 2
    title, *more = table.head or ("",)
    sorting = f"   sorted by {view.sorting}" if view.sorting else ""
    below = _body(view, table, header, lambda row: _text(row, chosen, table, names, spark, blocks))
    lines = [*(Line(text, "bold") for text in (title + sorting, *more)), header]
    lines += [line for line, _ in zip(below, range(max(0, body)))]
    lines += [Line("")] * (height - 1 - len(lines))
    lines = [*lines[: max(0, height - 1)], Line(_foot(view), "header")]
    return [Line(columns.cut(line.text, width), line.style) for line in lines[-height:]]


def _name_width(view: View, table: Table) -> int:
    name = next(iter(table.widths))
    longest = max((columns.width_of(row.cells[0]) for row in table.rows), default=0)
    least = table.widths[name]
    return max(least, min(longest, _NAME_MOST)) if view.full_names else least


def _fitting(view: View, table: Table, width: int) -> list[tuple[str, int]]:
    """The columns beside the name that fit, from the one to which was scrolled."""
    frozen, others = shown_columns(table)[1:FROZEN], shown_columns(table)[FROZEN:]
    found = []
    for name, index in [*frozen, *others[view.column :]]:
        if table.widths[name] > width:
            break
        width -= table.widths[name] + 1
        found.append((name, index))
    return found


def _header(chosen: list[tuple[str, int]], table: Table, names: int, width: int) -> str:
    cells = [(next(iter(table.widths)), names), *((name, table.widths[name]) for name, _ in chosen)]
    return columns.left(" ".join(columns.right(*cell) for cell in cells), width)


def _body(view: View, table: Table, header: Line, text_of: Callable[[Row], str]) -> Iterator[Line]:
    rows = _sorted(view, table)
    for index, row in enumerate(rows[min(view.first, max(0, len(rows) - 1)) :]):
        if view.repeat and index:
            yield header
        yield Line(text_of(row), row.style)
        yield from map(Line, row.below(view))


def _sorted(view: View, table: Table) -> Sequence[Row]:
    """Names go up, numbers down."""
    if view.sorting not in table.widths:
        return table.rows
    index = list(table.widths).index(view.sorting)
    if index < FROZEN:
        return sorted(table.rows, key=lambda row: row.cells[index])
    return sorted(table.rows, key=lambda row: -_value(row.cells[index]))


def _value(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return -1 if cell in (UNKNOWN, "-") else math.inf


def _text(row: Row, chosen: list[tuple[str, int]], table: Table, names: int, spark: int, blocks: str) -> str:
    cells = [columns.right(columns.cut(row.cells[0], names), names)]
    for name, index in chosen:
        cell = "-" if row.cells[index] == UNKNOWN else row.cells[index]
        cells.append(columns.right(cell, table.widths[name]))
    return " ".join([*cells, sparkline(row.history[-spark:], blocks)] if spark else cells)


def sparkline(history: Iterable[float], blocks: str) -> str:
    """A letter for each percentage; all above 100 are the highest."""
    most = len(blocks) - 1
    return "".join(blocks[max(0, min(math.ceil(value * most / 100), most))] for value in history)


def _foot(view: View) -> str:
    if view.entry is not None:
        return f"Delay in seconds ({view.delay_s:g}): {view.entry}_"
    return _KEYS
