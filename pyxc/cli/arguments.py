# SPDX-License-Identifier: MIT
"""Values on the command line, in the syntax of xl."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from enum import IntEnum

import pyxc

_SIZE = r"([0-9]+)([bkmgt]?)"
_SECONDS_MOST = 10**6
_SHIFTS = {"b": 0, "k": 10, "m": 20, "": 20, "g": 30, "t": 40}
_CPUS = r"(\^?)(nodes?:)?(?:(all)|([0-9]+)(?:-([0-9]+))?)"


def memory_kb(text: str) -> int:
    """KiB of a size: MiB unless b, k, m, g or t follows."""
    match = re.fullmatch(_SIZE, text.lower())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: expected a number and optionally b, k, m, g or t"
        )
    return int(match[1]) << _SHIFTS[match[2]] >> 10


def number(text: str) -> int:
    """A whole number, not negative."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def seconds(text: str) -> float:
    """A time in seconds, above 0, that a sleep can take."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= _SECONDS_MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds")
    return value


def cpu_set(text: str, topology: Sequence[pyxc.CpuTopology]) -> frozenset[int]:
    """The cpus that a list names: "0-3,5,^2", "all", "nodes:0,^1".

    Each part adds cpus, or with ^ takes some away, in their order.
    ValueError for another syntax, for cpus and nodes that the host does not have, and when no cpu is left.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(_CPUS, part)
        if match is None or (match[1] and match[3]):
            raise ValueError(f"{text!r} is not a list of cpus like 0-3,5,^2 or all")
        cpus = _part(match, topology)
        if not cpus:
            raise ValueError(f"{part.lstrip('^')} in {text!r} is not on this host of {len(topology)} cpus")
        chosen = chosen - cpus if match[1] else chosen | cpus
    if not chosen:
        raise ValueError(f"{text!r} selects no cpu")
    return frozenset(chosen)


def _part(match: re.Match[str], topology: Sequence[pyxc.CpuTopology]) -> set[int]:
    """The cpus of one part; none when any that it names does not exist."""
    if match[3]:
        return {place.cpu for place in topology}
    first = int(match[4])
    last = int(match[5] or first)
    place_of = {place.cpu: place.node if match[2] else place.cpu for place in topology}
    known = set(place_of.values())
    if last - first >= len(topology) or not known.issuperset(range(first, last + 1)):
        return set()
    return {cpu for cpu, place in place_of.items() if place is not None and first <= place <= last}


def cpu_list(cpus: Iterable[int] | None, count: int) -> list[int] | None:
    """A set of cpus for JSON, on a host of `count`; None for one that is not told."""
    return None if cpus is None else sorted(cpu for cpu in cpus if cpu < count)


def cpu_text(cpus: Iterable[int] | None, count: int) -> str:
    """A set of cpus as xl prints it on a host of `count`: "all", "none", "0-2,5"; "-" for one not told."""
    if cpus is None:
        return "-"
    wanted = {cpu for cpu in cpus if cpu < count}
    if len(wanted) == count:
        return "all"
    starts = sorted(cpu for cpu in wanted if cpu - 1 not in wanted)
    ends = sorted(cpu for cpu in wanted if cpu + 1 not in wanted)
    spans = [f"{start}-{end}" if end > start else str(start) for start, end in zip(starts, ends)]
    return ",".join(spans) or "none"


def scheduler_name(scheduler: pyxc.Scheduler | int) -> str:
    """A scheduler as xl prints it, "scheduler 42" where pyxc has no name for it."""
    return scheduler.name.lower() if isinstance(scheduler, IntEnum) else f"scheduler {scheduler}"
