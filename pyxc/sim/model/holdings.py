# SPDX-License-Identifier: MIT
"""Foreign mappings that are open, and the frames that they keep from being freed."""

from __future__ import annotations

from typing import NamedTuple

from pyxc._core import ForeignMap, SharedMemory


class Holding(NamedTuple):
    """What a foreign mapping keeps, and for which client; `lent` are references of dom0 that end with it."""

    client: object
    domid: int
    frames: frozenset[int]
    lent: tuple[int, ...] = ()


class Lease:
    """A mapping in another process."""

    exports = 0

    def __init__(self, frames: list[int], errors: list[int], writable: bool) -> None:
        self.frames = frames
        self.errors = errors
        self.writable = writable
        self.closed = False

    def close(self) -> None:
        self.closed = True


Mapping = ForeignMap | Lease


class Holdings:
    """All mappings of one machine's memory. They end when closed or collected, without a notification."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._leases: list[Lease] = []
        self._holdings: dict[int, Holding] = {}
        self._ended: list[Holding] = []

    def add(self, mapped: Mapping, holding: Holding) -> None:
        self._end(id(mapped))
        self._holdings[id(mapped)] = holding
        if isinstance(mapped, Lease):
            self._leases.append(mapped)

    def _end(self, key: int) -> None:
        if key in self._holdings:
            self._ended.append(self._holdings.pop(key))

    def opened(self) -> list[tuple[Mapping, Holding]]:
        """The mappings that are open."""
        self._leases = [lease for lease in self._leases if not lease.closed]
        everywhere: list[Mapping] = [*self._memory.maps, *self._leases]
        opened = {id(mapped): mapped for mapped in everywhere if not mapped.closed}
        for key in self._holdings.keys() - opened.keys():
            self._end(key)
        return [(opened[key], holding) for key, holding in self._holdings.items()]

    def ended(self) -> list[Holding]:
        """What was held by mappings that went since this was asked last."""
        self.opened()
        ended, self._ended = self._ended, []
        return ended

    def of_client(self, client: object) -> list[Mapping]:
        return [mapped for mapped, holding in self.opened() if holding.client is client]

    def writable_frames(self, domid: int) -> frozenset[int]:
        """Frames of a domain that are mapped writable."""
        opened = self.opened()
        return frozenset[int]().union(
            *(holding.frames for mapped, holding in opened if mapped.writable and holding.domid == domid)
        )

    def frames_of(self, domid: int) -> frozenset[int]:
        """Frames of a domain that are mapped under its id."""
        return frozenset[int]().union(
            *(holding.frames for _, holding in self.opened() if holding.domid == domid)
        )
