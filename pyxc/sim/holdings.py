# SPDX-License-Identifier: MIT
"""Foreign mappings that are open, and the frames that they keep from being freed."""

from __future__ import annotations

from typing import NamedTuple

from pyxc._core import ForeignMap, SharedMemory


class Holding(NamedTuple):
    """What a foreign mapping keeps, and for which client."""

    client: object
    domid: int
    frames: frozenset[int]


class Holdings:
    """Every mapping of one machine's memory. They go when closed or collected, which nobody announces."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._holdings: dict[int, Holding] = {}

    def add(self, mapped: ForeignMap, holding: Holding) -> None:
        self._holdings[id(mapped)] = holding

    def opened(self) -> list[tuple[ForeignMap, Holding]]:
        """The mappings that are open; what is known of others is forgotten."""
        opened = {id(mapped): mapped for mapped in self._memory.maps if not mapped.closed}
        self._holdings = {key: holding for key, holding in self._holdings.items() if key in opened}
        return [(opened[key], holding) for key, holding in self._holdings.items()]

    def of_client(self, client: object) -> list[ForeignMap]:
        return [mapped for mapped, holding in self.opened() if holding.client is client]

    def frames_of(self, domid: int) -> frozenset[int]:
        """Frames of a domain that are mapped under its id."""
        return frozenset[int]().union(
            *(holding.frames for _, holding in self.opened() if holding.domid == domid)
        )
