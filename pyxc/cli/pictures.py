# SPDX-License-Identifier: MIT
"""Pictures of the host: its cpus with what they run, and what uses its memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from pyxc.cli.svg import MARGIN, PALE, PALETTE, SIZE, Picture, fits
from pyxc.cli.treemap import Area, divided

_LINE = SIZE + 4
_TOP = 3 * MARGIN
"""Below the title."""
_CPU_WIDTH = 190
_CPUS_IN_ROW = 6
_VCPUS_SHOWN = 5
_GAP = 8
_MAP = Area(MARGIN, _TOP, 960, 540)
_BAR_HEIGHT = 22


class Cpu(NamedTuple):
    """A cpu with its place, its pool, and the vcpus that run or last ran on it."""

    node: int | None
    socket: int | None
    core: int | None
    cpu: int
    pool: str | None
    vcpus: list[str]

    @property
    def place(self) -> list[int]:
        """By which cpus are sorted; what is unknown comes first."""
        return [-1 if number is None else number for number in (self.node, self.socket, self.core, self.cpu)]


class Use(NamedTuple):
    """What uses some of the memory: a domain, or one of Xen's own purposes."""

    name: str
    pages: int
    is_domain: bool


class Node(NamedTuple):
    """The memory of a NUMA node."""

    node: int
    size_bytes: int
    free_bytes: int


def known(number: int | None) -> str:
    return "?" if number is None else str(number)


def topology(cpus: Iterable[Cpu]) -> Picture:
    """A frame for each socket, in it a box for each cpu in the colour of its pool."""
    cpus = sorted(cpus, key=lambda cpu: cpu.place)
    sockets = [
        (f"node {known(node)}, socket {known(socket)}", list(members))
        for (node, socket), members in groupby(cpus, lambda cpu: (cpu.node, cpu.socket))
    ]
    in_row = min(_CPUS_IN_ROW, max((len(members) for _, members in sockets), default=1))
    lines = 2 + max((min(len(cpu.vcpus), _VCPUS_SHOWN + 1) for cpu in cpus), default=0)
    height = lines * _LINE + _GAP
    heights = [_LINE + _GAP + -(-len(members) // in_row) * (height + _GAP) for _, members in sockets]
    width = in_row * (_CPU_WIDTH + _GAP) + _GAP
    picture = Picture(
        "Topology", width + 2 * MARGIN, _TOP + sum(heights) + _GAP * (len(heights) - 1) + MARGIN
    )
    colours = _colours(cpu.pool for cpu in cpus)
    y = _TOP
    for (label, members), tall in zip(sockets, heights):
        picture.box(MARGIN, y, width, tall, "none", "#888888")
        picture.text(MARGIN + _GAP, y + _LINE, label, width=width, bold=True)
        for place, cpu in enumerate(members):
            at = (
                MARGIN + _GAP + place % in_row * (_CPU_WIDTH + _GAP),
                y + _LINE + _GAP + place // in_row * (height + _GAP),
            )
            _draw_cpu(picture, cpu, *at, height, colours[cpu.pool])
        y += tall + _GAP
    return picture


def _colours(names: Iterable[str | None]) -> dict[str | None, str]:
    """A colour for each name in the order of their appearance; None is pale."""
    found: dict[str | None, str] = {None: PALE}
    for name in names:
        found.setdefault(name, PALETTE[(len(found) - 1) % len(PALETTE)])
    return found


def _draw_cpu(picture: Picture, cpu: Cpu, x: float, y: float, height: float, colour: str) -> None:
    shown = cpu.vcpus[:_VCPUS_SHOWN]
    if more := len(cpu.vcpus) - len(shown):
        shown.append(f"and {more} more")
    pool = cpu.pool or "no pool"
    picture.box(x, y, _CPU_WIDTH, height, colour, tip=f"cpu {cpu.cpu}, {pool}: {' '.join(cpu.vcpus)}")
    for number, text in enumerate([f"cpu {cpu.cpu}  core {known(cpu.core)}", pool, *shown]):
        below = y + (number + 1) * _LINE
        picture.text(x + _GAP, below, text, width=_CPU_WIDTH - 2 * _GAP, bold=number == 0)


def memory(uses: Iterable[Use], nodes: Sequence[Node]) -> Picture:
    """A treemap of what uses the memory, and a bar for each node."""
    uses = sorted((use for use in uses if use.pages), key=lambda use: -use.pages)
    total = sum(use.pages for use in uses)
    picture = Picture(
        f"Memory: {_mib(total)}",
        _MAP.width + 2 * MARGIN,
        _TOP + _MAP.height + MARGIN + len(nodes) * (_BAR_HEIGHT + _GAP),
    )
    colours = _colours(use.name for use in uses if use.is_domain)
    for use, area in zip(uses, divided([use.pages for use in uses], _MAP)):
        texts = [use.name, _mib(use.pages), f"{100 * use.pages / (total or 1):.1f} %"]
        colour = colours[use.name] if use.is_domain else PALE
        picture.box(*area, colour, "white", ", ".join(texts))
        _label(picture, area, texts)
    y = _MAP.y + _MAP.height + MARGIN
    for node in nodes:
        _draw_node(picture, node, y)
        y += _BAR_HEIGHT + _GAP
    return picture


def _label(picture: Picture, area: Area, texts: Sequence[str]) -> None:
    """As many of the lines as fit; a name may be cut."""
    width = area.width - _GAP
    for number, text in enumerate(texts):
        below = (number + 1) * _LINE
        if below > area.height or not fits(text if number else text[:3], width):
            return
        picture.text(area.x + _GAP / 2, area.y + below, text, width=width, bold=number == 0)


def _draw_node(picture: Picture, node: Node, y: float) -> None:
    used = 1 - node.free_bytes / node.size_bytes if node.size_bytes else 0
    picture.box(_MAP.x, y, _MAP.width, _BAR_HEIGHT, PALE)
    picture.box(_MAP.x, y, _MAP.width * used, _BAR_HEIGHT, PALETTE[4])
    text = f"node {node.node}: {node.size_bytes >> 20} MiB, {node.free_bytes >> 20} MiB free"
    picture.text(_MAP.x + _GAP / 2, y + _LINE, text, width=_MAP.width)


def _mib(pages: int) -> str:
    return f"{pages >> 8} MiB"
