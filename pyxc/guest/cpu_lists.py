# SPDX-License-Identifier: MIT
"""Lists of cpus in the syntax of xl."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pyxc.host.topology import CpuTopology

_CPUS = re.compile(r"(\^?)(nodes?:)?(?:(all)|([0-9]+)(?:-([0-9]+))?)")


def cpu_set(text: str, topology: Sequence[CpuTopology]) -> frozenset[int]:
    """The cpus that a list names: "0-3,5,^2", "all", "nodes:0,^1".

    The parts are applied in order: each adds cpus, or removes some with ^. ValueError for another syntax, for
    cpus and nodes that the host does not have, and if no cpu is left.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        match = _CPUS.fullmatch(part.strip())
        if match is None or (match[1] and match[3]):
            raise ValueError(f"{text!r} is not a list of cpus like 0-3,5,^2 or all")
        if match[5] and int(match[5]) < int(match[4]):
            raise ValueError(f"{part!r} is not a range: {match[4]} comes after {match[5]}")
        cpus = _part(match, topology)
        if not cpus:
            raise ValueError(f"{part.lstrip('^')}: this host has only {_extent(topology)}")
        chosen = chosen - cpus if match[1] else chosen | cpus
    if not chosen:
        raise ValueError(f"{text!r} selects no cpu")
    return frozenset(chosen)


def _extent(topology: Sequence[CpuTopology]) -> str:
    """The cpus and nodes that there are."""
    cpus = {place.cpu for place in topology}
    nodes = {place.node for place in topology if place.node is not None} or {0}
    return " and ".join(
        f"{what}s {min(found)} to {max(found)}" if len(found) > 1 else f"{what} {max(found)}"
        for what, found in (("cpu", cpus), ("node", nodes))
    )


def _part(match: re.Match[str], topology: Sequence[CpuTopology]) -> set[int]:
    """The cpus of one part; empty if it names a cpu or node that does not exist."""
    if match[3]:
        return {place.cpu for place in topology}
    first = int(match[4])
    last = int(match[5] or first)
    place_of = {place.cpu: place.node if match[2] else place.cpu for place in topology}
    known = set(place_of.values())
    if last - first >= len(topology) or not known.issuperset(range(first, last + 1)):
        return set()
    return {cpu for cpu, place in place_of.items() if place is not None and first <= place <= last}
