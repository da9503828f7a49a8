# SPDX-License-Identifier: MIT
"""Replays a recording: each call gets the result that a real hypervisor returned for the same bytes."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pyxc._core import PAGE_SIZE, ForeignMap, Pool, SharedMemory
from pyxc.errors import NotXenError, StoreError
from pyxc.link import Direct, EventDevice
from pyxc.link.snapshot import Snapshot, packed, unpacked
from pyxc.link.tape import ReplayError, Tape, whole
from pyxc.store.channel import Channel

__all__ = ["ReplayError", "ReplayLink"]

_BLANK = bytes(PAGE_SIZE)
_STORE_MOST = 1 << 20


class ReplayLink:
    """A link whose hypervisor is a recording: the program must make the same calls in the same order.

    ReplayError shows the recorded and the actual call. ValueError for a file that is not a recording.
    Threads: one at a time.
    """

    gated = False
    kernel_files: str | None = None
    direct: Direct | None = None
    unrecorded = None

    def __init__(self, lines: Iterable[str], target: str = "replay") -> None:
        self.target = target
        self._tape = Tape(lines, target)
        order, width = self._tape.header.get("byteorder"), self._tape.header.get("kernel_bits")
        if order not in ("little", "big") or width not in (32, 64):
            self._tape.close()
            raise ValueError(f"{target} is not a recording: {order!r} byte order and {width!r} bits")
        self.byteorder: Literal["little", "big"] = order
        self.kernel_bits: int = width
        self.pool = Pool(locked=False)
        self._maps: list[ForeignMap] = []

    @property
    def maps(self) -> list[ForeignMap]:
        self._maps = [mapped for mapped in self._maps if not mapped.closed]
        return self._maps.copy()

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        arena = Snapshot.of(self.pool, (a1, a2, a3, a4, a5), self.byteorder)
        arguments = [arena.relative(value) for value in (a1, a2, a3, a4, a5)]
        line = self._tape.answer({"hypercall": op, "arguments": arguments, "in": arena.read()})
        with self._tape.understood():
            if arena.size:
                arena.write(line["out"])
            return whole(line["result"])

    def dm_op(self, domid: int, buffers: Sequence[bytes]) -> tuple[int, list[bytes]]:
        line = self._tape.answer({"dm_op": domid, "in": [packed(content) for content in buffers]})
        with self._tape.understood():
            after = [unpacked(text, len(content)) for text, content in zip(line["out"], buffers)]
            return whole(line["result"]), after

    def restrict(self, domid: int) -> int:
        line = self._tape.answer({"restrict": domid})
        with self._tape.understood():
            return whole(line["result"])

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
        line = self._tape.answer(asked)
        self._tape.check(line)
        with self._tape.understood():
            return self._map(line, domid, count, asked["writable"])

    def _map(self, line: dict[str, Any], domid: int, count: int, writable: bool) -> ForeignMap:
        pages = unpacked(line["pages"], count * PAGE_SIZE)
        return self._mapping(domid, count, writable, pages, [whole(code) for code in line["errors"]])

    def _mapping(
        self, domid: int, count: int, writable: bool, pages: bytes = b"", codes: Sequence[int] = ()
    ) -> ForeignMap:
        """A mapping of new memory. The mapping does not need its descriptor, which is closed on return."""
        memory = SharedMemory(count)
        try:
            for index in range(len(pages) // PAGE_SIZE):
                page = pages[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]
                if page != _BLANK:
                    memory.write(index, 0, page)
            mapped = memory.map_frames(domid, array("Q", range(count)), writable, codes)
        except BaseException:
            memory.close()
            raise
        self._maps = [*self.maps, mapped]
        return mapped

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        line = self._tape.answer({"resource_size": [domid, kind, ident]})
        with self._tape.understood():
            return whole(line["result"])

    def map_grants(self, domid: int, refs: array[int], writable: bool = False) -> ForeignMap:
        asked = {"map_grants": domid, "refs": refs.tolist(), "writable": writable}
        return self._mapped(asked, domid, len(refs))

    def lend_pages(self, domid: int, count: int, writable: bool = False) -> tuple[list[int], ForeignMap]:
        line = self._tape.answer({"lend_pages": [domid, count], "writable": writable})
        self._tape.check(line)
        with self._tape.understood():
            refs = [whole(ref) for ref in line["refs"]]
        return refs, self._mapping(domid, count, writable=True)

    def open_events(self) -> EventDevice:
        return _ReplayedEvents(self._tape, self._tape.open_device("events", NotXenError))

    def connect_store(self) -> Channel:
        return _ReplayedStore(self._tape, self._tape.open_device("store", StoreError))

    def clock_ns(self) -> int:
        line = self._tape.answer({"clock": "ns"})
        with self._tape.understood():
            return whole(line["time"], 64)

    def close(self) -> None:
        """All or none: a mapping that a memoryview holds is closed first, and raises BufferError."""
        for mapped in sorted(self.maps, key=lambda mapped: mapped.exports, reverse=True):
            mapped.close()
        self.pool.close()
        self._tape.close()


class _Device:
    def __init__(self, tape: Tape, device: int) -> None:
        self._tape = tape
        self._device = device

    def fileno(self) -> int:
        return self._tape.fileno(self._device)

    def close(self) -> None:
        self._tape.close_device(self._device)


class _ReplayedStore(_Device):
    """A connection to xenstored: the sent data, and the received data with its position."""

    def send(self, data: bytes) -> int:
        line = self._tape.answer({"device": self._device})
        self._tape.check(line)
        with self._tape.understood():
            sent = unpacked(line["sent"], len(data))
        if not sent or not data.startswith(sent):
            raise self._tape.another(sent, data)
        return len(sent)

    def receive(self) -> bytes:
        if not self._tape.ready(self._device):
            raise BlockingIOError(errno.EAGAIN, "no data is available")
        line = self._tape.answer({"device": self._device})
        self._tape.check(line)
        with self._tape.understood():
            return unpacked(line["received"], _STORE_MOST)


class _ReplayedEvents(_Device):
    """An event channel device: its requests, and its events with their positions."""

    def request(self, name: str, *numbers: int) -> int:
        line = self._tape.answer({"device": self._device, "request": [name, *numbers]})
        with self._tape.understood():
            return whole(line["result"])

    def take(self) -> int:
        line = self._tape.answer({"device": self._device})
        with self._tape.understood():
            return whole(line["taken"])

    def unmask(self, port: int) -> None:
        self._tape.answer({"device": self._device, "unmask": port})
