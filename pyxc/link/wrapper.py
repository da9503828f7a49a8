# SPDX-License-Identifier: MIT
"""A link around another link."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from pyxc._core import ForeignMap, Pool
from pyxc.link import Direct, EventDevice, Link
from pyxc.store.channel import Channel


class LinkWrapper:
    """Passes every call on; subclasses override methods."""

    direct: Direct | None = None

    def __init__(self, inner: Link) -> None:
        self._inner = inner
        self.target = inner.target
        self.byteorder = inner.byteorder
        self.kernel_bits = inner.kernel_bits
        self.gated = inner.gated

    @property
    def kernel_files(self) -> str | None:
        return self._inner.kernel_files

    @property
    def pool(self) -> Pool:
        return self._inner.pool

    @property
    def maps(self) -> list[ForeignMap]:
        return self._inner.maps

    def hypercall(self, op: int, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        return self._inner.hypercall(op, a1, a2, a3, a4, a5)

    def dm_op(self, domid: int, buffers: Sequence[bytes]) -> tuple[int, list[bytes]]:
        return self._inner.dm_op(domid, buffers)

    def restrict(self, domid: int) -> int:
        return self._inner.restrict(domid)

    def map_frames(self, domid: int, frames: array[int], writable: bool = False) -> ForeignMap:
        return self._inner.map_frames(domid, frames, writable)

    def map_resource(
        self, domid: int, kind: int, ident: int, first: int, count: int, writable: bool = False
    ) -> ForeignMap:
        return self._inner.map_resource(domid, kind, ident, first, count, writable)

    def resource_size(self, domid: int, kind: int, ident: int) -> int:
        return self._inner.resource_size(domid, kind, ident)

    def map_grants(self, domid: int, refs: array[int], writable: bool = False) -> ForeignMap:
        return self._inner.map_grants(domid, refs, writable)

    def lend_pages(self, domid: int, count: int, writable: bool = False) -> tuple[list[int], ForeignMap]:
        return self._inner.lend_pages(domid, count, writable)

    def open_events(self) -> EventDevice:
        return self._inner.open_events()

    def connect_store(self) -> Channel:
        return self._inner.connect_store()

    def clock_ns(self) -> int:
        return self._inner.clock_ns()

    def close(self) -> None:
        self._inner.close()
