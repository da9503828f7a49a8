# SPDX-License-Identifier: MIT
"""Plays a recording back: answers each call with what a real hypervisor once said to the very same bytes."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from typing import Any, Literal

from pyxc._core import PAGE_SIZE, ForeignMap, Pool, SharedMemory
from pyxc.link import EventDevice
from pyxc.link.record import FORMAT, Snapshot, unpacked

_BLANK = bytes(PAGE_SIZE)


class ReplayError(AssertionError):
    """The program asked something else than was recorded."""


class ReplayLink:
    """A link whose hypervisor is a recording, which must be asked the same things in the same order.

    Of one thread. ReplayError says what was recorded and what was asked.
    """

    target = "replay"
    store = None

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        header = json.loads(next(self._lines))
        if header["format"] != FORMAT:
            raise ValueError(f"recording of format {header['format']}, {FORMAT} is known")
        self.byteorder: Literal["little", "big"] = header["byteorder"]
        self.kernel_bits: int = header["kernel_bits"]
        self.pool = Pool(locked=False)
        self._maps: list[tuple[SharedMemory, ForeignMap]] = []

    @property
    def maps(self) -> list[ForeignMap]:
        return [mapped for _, mapped in self._maps if not mapped.closed]

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        arena = Snapshot.of(self.pool, (a1, a2, a3, a4, a5), self.byteorder)
        arguments = [arena.relative(value) for value in (a1, a2, a3, a4, a5)]
        line = self._next({"hypercall": op, "arguments": arguments, "in": arena.read()})
        if arena.size:
            arena.write(line["out"])
        return int(line["result"])

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        return self._mapped(
            {"map_frames": domid, "frames": frames.tolist(), "writable": writable}, domid, len(frames)
        )

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        asked = {"map_resource": [domid, kind, ident, first, count], "writable": writable}
        return self._mapped(asked, domid, count)

    def _mapped(self, asked: dict[str, Any], domid: int, count: int) -> ForeignMap:
        line = self._next(asked)
        if "errno" in line:
            raise OSError(line["errno"], "recorded")
        memory = SharedMemory(count)
        pages = unpacked(line["pages"])
        for index in range(len(pages) // PAGE_SIZE):
            page = pages[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
            if page != _BLANK:
                memory.write(index, 0, page)
        mapped = memory.map_frames(domid, array("Q", range(count)), asked["writable"], line["errors"])
        self._maps.append((memory, mapped))
        return mapped

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        return int(self._next({"resource_size": [domid, kind, ident]})["result"])

    def open_events(self) -> EventDevice:
        raise ReplayError("event channels are not recorded")

    def _next(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            line: dict[str, Any] = json.loads(next(self._lines))
        except StopIteration:
            raise ReplayError(f"the recording is at its end, but was asked {asked}") from None
        recorded = {name: line.get(name) for name in asked}
        if recorded != asked:
            raise ReplayError(f"recorded: {recorded}\nasked:    {asked}")
        return line

    def close(self) -> None:
        for memory, mapped in self._maps:
            mapped.close()
            memory.close()
        self.pool.close()
