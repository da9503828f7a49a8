# SPDX-License-Identifier: MIT
"""Tables for notebooks, which show an object by its `_repr_html_()`. Text may come from guests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pyxc.call.records import asdict


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = _row("th", heads)
    return f"<table><thead>{head}</thead><tbody>{''.join(_row('td', row) for row in rows)}</tbody></table>"


def of_record(record: Any) -> str:
    """Its fields, one on each line."""
    return table(("field", "value"), ((name, _shown(value)) for name, value in asdict(record).items()))


def of_registers(registers: Mapping[str, int]) -> str:
    return table(("register", "value"), ((name, f"{value:#x}") for name, value in registers.items()))


def _shown(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _row(kind: str, cells: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(_text(cell))}</{kind}>' for cell in cells)}</tr>"


def _text(cell: object) -> str:
    return "" if cell is None else str(cell)
