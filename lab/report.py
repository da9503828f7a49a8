# SPDX-License-Identifier: MIT
"""The report at the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from lab import suite

STATES = ("passed", "failed", "skipped")
LANE_STATES = ("passed", "failed", "crashed", "skipped")
LANES = ("hypervisor", "userland", *LANE_STATES, "seconds")


class Verdict(Protocol):
    """The result of one lane, or of one Python."""

    @property
    def name(self) -> str: ...

    @property
    def problems(self) -> tuple[str, ...]: ...

    def count(self, state: str) -> int: ...


V = TypeVar("V", bound=Verdict)


def text(
    header: Sequence[str], verdicts: Sequence[V], row: Callable[[V], Sequence[str]], states: Sequence[str]
) -> str:
    """The problems, a table with a ROW for each verdict, and one line with the sums of STATES."""
    problems = [f"{verdict.name}: {problem}" for verdict in verdicts for problem in verdict.problems]
    sums = ", ".join(f"{sum(verdict.count(state) for verdict in verdicts)} {state}" for state in states)
    return "\n".join([*problems, *table([header, *map(row, verdicts)]), sums])


def lane_row(verdict: suite.Verdict) -> Sequence[str]:
    """The row of a lane under LANES."""
    counts = ["lost", "", "", ""] if verdict.lost else [str(verdict.count(state)) for state in LANE_STATES]
    return (f"Xen {verdict.lane.hypervisor.name}", verdict.lane.root.arch, *counts, f"{verdict.seconds:.0f}")


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """The rows as lines, with words aligned to the left and numbers to the right."""
    columns = [_column(list(cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(cells) for cells in zip(*columns, strict=True)]


def _column(cells: list[str]) -> list[str]:
    width = max(map(len, cells))
    numbers = all(cell.isdigit() or not cell for cell in cells[1:])
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in cells]
