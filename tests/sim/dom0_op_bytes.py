# SPDX-License-Identifier: MIT
"""dom0_op in plain bytes: offsets are those that Xen's header of 2006 has for a 64-bit hypervisor.

Nothing here comes from the tables of the library.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pyxc import sim
from pyxc._core import Arena

HYPERCALL = 7
VERSION = 0x03000000
SIZE = 136
BODY = 8

Field = tuple[int, int, int]
"""Offset in the body, size in bytes, value."""


def u8(offset: int, value: int) -> Field:
    return offset, 1, value


def u16(offset: int, value: int) -> Field:
    return offset, 2, value


def u32(offset: int, value: int) -> Field:
    return offset, 4, value


def u64(offset: int, value: int) -> Field:
    return offset, 8, value


class Answer(NamedTuple):
    """The result, and the body of the structure afterwards."""

    result: int
    body: bytes
    byteorder: Literal["little", "big"]

    def number(self, offset: int, size: int) -> int:
        return int.from_bytes(self.body[offset : offset + size], self.byteorder)


class OldXen:
    """A client of a simulated Xen of 2006 that writes and reads every byte itself."""

    def __init__(self, target: str) -> None:
        self.link: Any = sim.connect(target)
        self.xen = self.link.hypervisor
        self.powerpc = "ppc64" in target
        self.byteorder: Literal["little", "big"] = "big" if self.powerpc else "little"
        self._arenas: list[Arena] = []

    def buffer(self, content: bytes | int) -> Arena:
        """Registered memory with some content, or so many zero bytes; it ends with its last page."""
        data = bytes(content) if isinstance(content, int) else content
        arena = self.link.pool.take(max(1, len(data)))
        arena.view[: len(data)] = data
        self._arenas.append(arena)
        return arena

    def ask(self, command: int, *fields: Field, version: int = VERSION) -> Answer:
        request = bytearray(SIZE)
        for offset, size, value in ((0, 4, command), (4, 4, version)):
            request[offset : offset + size] = value.to_bytes(size, self.byteorder)
        for offset, size, value in fields:
            request[BODY + offset : BODY + offset + size] = value.to_bytes(size, self.byteorder)
        arena = self.buffer(bytes(request))
        result = self.link.hypercall(HYPERCALL, arena.address)
        return Answer(result, bytes(arena.view[BODY:SIZE]), self.byteorder)

    def words(self, data: Any) -> list[int]:
        """u64 of a buffer."""
        whole = bytes(data)
        return [int.from_bytes(whole[at : at + 8], self.byteorder) for at in range(0, len(whole), 8)]

    def create(self, domid: int = 0) -> int:
        """A new domain, its id."""
        answer = self.ask(8, u16(20, domid))
        assert answer.result == 0
        return answer.number(20, 2)

    def owned(self, domid: int) -> list[int]:
        """Frames that are a domain's memory, in the order of Xen's list."""
        return [mfn for run in self.xen.machine.memory_of(domid).runs for mfn in run]

    def close(self) -> None:
        for arena in self._arenas:
            arena.release()
        self.link.close()
