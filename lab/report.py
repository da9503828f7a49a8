# SPDX-License-Identifier: MIT
"""What a run of the lab says at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lab.suite import Verdict

HEADER = ("hypervisor", "userland", "passed", "failed", "skipped", "seconds")
STATES = ("passed", "failed", "skipped")


def text(verdicts: Sequence[Verdict]) -> str:
    """The problems, the table, and one line with the sums."""
    problems = [f"{verdict.lane.name}: {problem}" for verdict in verdicts for problem in verdict.problems]
    sums = ", ".join(f"{sum(verdict.count(state) for verdict in verdicts)} {state}" for state in STATES)
    return "\n".join([*problems, *_table([HEADER, *map(_row, verdicts)]), sums])


def _row(verdict: Verdict) -> tuple[str, ...]:
    counts = ["lost", "", ""] if verdict.lost else [str(verdict.count(state)) for state in STATES]
    return (f"Xen {verdict.lane.xen_name}", verdict.lane.root.arch, *counts, f"{verdict.seconds:.0f}")


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as they need; words to the left, numbers to the right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
