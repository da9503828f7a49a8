# SPDX-License-Identifier: MIT
"""Reports of the numbers: tables for the terminal and for docs/benchmarks.md, and which goals are reached."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

BEGIN = "<!-- written by make bench: begin -->\n"
END = "<!-- written by make bench: end -->\n"
PROCESS_GOAL = 5
MOVING_GOAL = 1.5
PEERS = {"xc": "xen.lowlevel.xc", "c": "C"}


class Row(NamedTuple):
    """One operation: medians in microseconds, None where a side has no such call."""

    operation: str
    pyxc_us: float
    xc_us: float | None
    c_us: float | None

    def ratio(self, peer: str) -> float | None:
        """pyxc's time in units of a peer's ("xc" or "c")."""
        other = {"xc": self.xc_us, "c": self.c_us}[peer]
        return None if other is None else self.pyxc_us / other


class Goal(NamedTuple):
    """The goal: pyxc's time is at most this many times a peer's."""

    operation: str
    peer: str
    most: float

    def __str__(self) -> str:
        if self.most < 1:
            return f"{1 / self.most:.0f}x faster than {PEERS[self.peer]}"
        if self.most > 1:
            return f"within {self.most:g}x of {PEERS[self.peer]}"
        return f"{'faster' if self.peer == 'xc' else 'not slower'} than {PEERS[self.peer]}"


GOALS = (
    Goal("xen_version", "c", 1.5),
    Goal("domain info", "c", 1.5),
    Goal("physinfo", "c", 1.5),
    Goal("list of 51 domains", "xc", 1 / 10),
    Goal("list of 51 domains", "c", 1),
    Goal("list of 501 domains", "xc", 1 / 20),
    Goal("list of 501 domains", "c", 1),
    Goal("vcpu info of 64 vcpus", "c", 1 / 5),
    Goal("copy 256 MiB of mapped frames", "c", 1.2),
)
"""In addition, every operation should be faster than in xen.lowlevel.xc."""

Lines = list[tuple[str, ...]]


def rows(data: bytes) -> list[Row]:
    """The rows of a JSON list of objects with the fields of Row."""
    return [Row(**fields) for fields in json.loads(data)]


def goals(measured: Sequence[Row]) -> Iterator[tuple[Goal, float]]:
    """Each goal with the ratio that was measured."""
    by_name = {row.operation: row for row in measured}
    faster = [Goal(row.operation, "xc", 1) for row in measured if row.xc_us is not None]
    told = {(goal.operation, goal.peer) for goal in GOALS}
    for goal in [*GOALS, *(goal for goal in faster if (goal.operation, goal.peer) not in told)]:
        ratio = by_name[goal.operation].ratio(goal.peer)
        assert ratio is not None, goal
        yield goal, ratio


def times_table(measured: Sequence[Row]) -> Lines:
    """Times in microseconds, and pyxc's in units of each peer's."""
    lines: Lines = [("operation", "pyxc us", "xc us", "C us", "pyxc : xc", "pyxc : C")]
    for row in measured:
        times = (f"{time:.1f}" if time is not None else "-" for time in (row.pyxc_us, row.xc_us, row.c_us))
        ratios = (_ratio(row.ratio(peer)) for peer in PEERS)
        lines.append((row.operation, *times, *ratios))
    return lines


def goals_table(measured: Sequence[Row]) -> Lines:
    """Each goal, and by how much it is reached or missed."""
    lines: Lines = [("operation", "goal", "measured", "")]
    for goal, ratio in goals(measured):
        found = f"{1 / ratio:.1f}x faster" if goal.most < 1 and ratio < 1 else f"{ratio:.2f}x its time"
        lines.append((goal.operation, str(goal), found, "reached" if ratio <= goal.most else "missed"))
    return lines


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}" if ratio >= 0.1 else f"1/{1 / ratio:.0f}"


def text(measured: Sequence[Row]) -> str:
    """Both tables for a terminal."""
    return f"{aligned(times_table(measured))}\n\n{aligned(goals_table(measured))}"


def processes_table(seconds: Mapping[str, float]) -> Lines:
    """Whole processes in dom0: pyxc's beside bare Python and xl, in milliseconds."""
    bare = seconds["python3 -c pass"]
    goal = f"goal: {PROCESS_GOAL}x bare"
    lines: Lines = [("process in dom0", "ms", "of bare Python", "xl ms", "pyxc : xl", goal)]
    lines.append(("python3 -c pass", f"{bare * 1000:.0f}", "1.00x", "-", "-", "-"))
    for name, found in seconds.items():
        program, _, command = name.partition(" ")
        if program == "pyxc":
            xl = seconds[f"xl {command}"]
            verdict = "reached" if found <= PROCESS_GOAL * bare else "missed"
            shown = (f"{found * 1000:.0f}", f"{found / bare:.2f}x", f"{xl * 1000:.0f}", f"{found / xl:.2f}")
            lines.append((name, *shown, verdict))
    return lines


def building_table(measured: Sequence[Mapping[str, str | float]]) -> Lines:
    """Building guests: the call beside libxenguest's, the whole process beside xl's, in milliseconds."""
    lines: Lines = [
        ("build to paused", "pyxc ms", "C ms", "pyxc : C", "pyxc create ms", "xl create ms", "pyxc : xl")
    ]
    for row in measured:
        sides = ("pyxc", "c", "pyxc_create", "xl_create")
        call, c, create, xl = (float(row[f"{side}_ms"]) for side in sides)
        calls, processes = (f"{call:.1f}", f"{c:.1f}", _ratio(call / c)), (f"{create:.1f}", f"{xl:.1f}")
        lines.append((str(row["guest"]), *calls, *processes, _ratio(create / xl)))
    return lines


def moving_table(measured: Sequence[Mapping[str, str | float | None]]) -> Lines:
    """Guests that move: seconds of each side, how much faster pyxc is, and how long the guest was down.

    A migration, in which the guest runs nearly all the time, has a goal for its downtime only.
    """
    goal = f"goal: {MOVING_GOAL}x"
    lines: Lines = [
        ("guest", "operation", "pyxc s", "xl s", "pyxc MB/s", "xl MB/s", "faster than xl", goal)
        + ("down, pyxc s", "down, xl s", "goal: not longer")
    ]
    for row in measured:
        mine, xl, my_down, xl_down = (row[f"{name}_s"] for name in ("pyxc", "xl", "pyxc_down", "xl_down"))
        assert isinstance(mine, float)
        faster = f"{xl / mine:.2f}x" if isinstance(xl, float) else "-"
        fast = "-" if row["operation"] == "migrate" else _at_least(MOVING_GOAL, xl, mine)
        downs = (_seconds(my_down), _seconds(xl_down), _at_least(1, xl_down, my_down))
        lines.append(
            (str(row["guest"]), str(row["operation"]), _seconds(mine), _seconds(xl))
            + (_rate(row, mine), _rate(row, xl), faster, fast, *downs)
        )
    return lines


def _rate(row: Mapping[str, object], seconds: object) -> str:
    """MB a second of the guest's memory, except for what copies only some of it."""
    if not isinstance(seconds, float) or row["operation"] == "revert":
        return "-"
    mib = int(str(row["guest"]).split()[1])
    return f"{mib * 2**20 / 1e6 / seconds:.0f}"


def _at_least(times: float, theirs: object, mine: object) -> str:
    """Whether a goal is reached: that their side takes so many times as long."""
    if not isinstance(theirs, float) or not isinstance(mine, float):
        return "-"
    return "reached" if theirs >= times * mine else "missed"


def _seconds(found: object) -> str:
    return f"{found:.2f}" if isinstance(found, float) else "-"


def aligned(lines: Lines) -> str:
    """A table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths)] for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def markdown(measured: Sequence[Row], conditions: str) -> str:
    """Both tables in Markdown, under a sentence on the conditions."""
    return f"{conditions}\n\n{piped(times_table(measured))}\n\n{piped(goals_table(measured))}\n"


def piped(lines: Lines) -> str:
    """A table in Markdown."""
    rule = ("---",) * len(lines[0])
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def piped_apart(lines: Lines) -> str:
    """The same, followed by an empty line."""
    return f"{piped(lines)}\n"


def replaced(document: str, tables: str) -> str:
    """A document with new tables between its marks; ValueError if it has no marks."""
    before, _, rest = document.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError("there is no place for the tables: no marks in the document")
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"
