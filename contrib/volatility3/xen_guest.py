# SPDX-License-Identifier: MIT
"""volatility3 on running guests: vol -p contrib/volatility3 -f xen://DOMAIN linux.pslist

DOMAIN is an id, a name or a UUID, or unix:PATH or tcp:HOST:PORT, where pyxc memory-server listens. The guest
continues to run and is only read; pause it for a consistent view. Page tables of a 64-bit PV guest, which
name machine frames, appear with guest frames; 32-bit PV guests are refused.
"""

from __future__ import annotations

import io
import os
import urllib.parse
import urllib.request
from contextlib import ExitStack, suppress

from volatility3.framework.layers import resources

import pyxc
from pyxc import debug
from pyxc.debug import DomainMemory, RemoteMemory
from pyxc.debug.guest_memory import WITHOUT_XEN
from pyxc.debug.memory_client import SERVED

_SCHEME = "xen"
_PATIENCE_S = 300
"""For one reply: the server looks for the page tables of a PV guest first."""


class GuestFile(io.RawIOBase):
    """The physical memory of a guest as a file; what is not there reads as zeros. Threads: one at a time."""

    def __init__(self, place: str) -> None:
        with ExitStack() as stack:
            self._memory = stack.enter_context(_memory(place, stack))
            # Now: volatility3 shows no error of later reads.
            with suppress(pyxc.NotMapped):
                self._memory.read(WITHOUT_XEN, 0, 1)
            self._opened = stack.pop_all()
        self._size = self._memory.facts.physical_bytes
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: bytearray | memoryview) -> int:
        size = max(0, min(len(buffer), self._size - self._place))
        buffer[:size] = self._bytes(self._place, size)
        self._place += size
        return size

    def _bytes(self, address: int, size: int) -> bytes:
        try:
            return self._memory.read(WITHOUT_XEN, address, size)
        except pyxc.NotMapped:
            return b"".join(
                self._page(start, min(address + size, (start // 4096 + 1) * 4096) - start)
                for start in [address, *range((address // 4096 + 1) * 4096, address + size, 4096)]
            )

    def _page(self, address: int, size: int) -> bytes:
        try:
            return self._memory.read(WITHOUT_XEN, address, size)
        except pyxc.NotMapped:
            return bytes(size)

    def close(self) -> None:
        if not self.closed:
            self._opened.close()
        super().close()


def _memory(place: str, stack: ExitStack) -> DomainMemory | RemoteMemory:
    if place.startswith(SERVED):
        return debug.connect_memory(place, timeout=_PATIENCE_S)
    xen = stack.enter_context(pyxc.open(readonly=True))
    return DomainMemory(xen.domains[place])


class XenHandler(resources.VolatilityHandler):
    """Opens xen://DOMAIN and xen://unix:PATH."""

    @classmethod
    def non_cached_schemes(cls) -> list[str]:
        return [_SCHEME]

    @staticmethod
    def default_open(request: urllib.request.Request) -> GuestFile | None:
        if request.type != _SCHEME:
            return None
        return GuestFile(urllib.parse.unquote(request.full_url.partition("://")[2].rstrip("/")))
