# SPDX-License-Identifier: MIT
"""The console's ring in a page of the guest, served from this process (public/io/console.h).

The guest can write anything into that page at any time: each index is read once, checked, and never decides
how much memory is touched.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Final

from pyxc import errors
from pyxc._core import ForeignMap
from pyxc.abi.console import CONNECTED, CONNECTION_OFFSET, DISCONNECTED, IN_BYTES, OUT_BYTES
from pyxc.domain.identity import Identity
from pyxc.domain.mapping import Mapping
from pyxc.host.events import EventChannels

_INDICES: Final = slice(IN_BYTES + OUT_BYTES, IN_BYTES + OUT_BYTES + 16)
_IN_CONS, _IN_PROD, _OUT_CONS, _OUT_PROD = range(4)
_U32 = 2**32


class Ring:
    """The ring of one guest, mapped; `port` is the guest's, to which it is bound. Threads: one at a time."""

    def __init__(self, domain: Identity, frame: int, port: int) -> None:
        self._domain = domain
        self._events: EventChannels | None = None
        self._local = 0
        self._was_disconnected = False
        self._mapped: ForeignMap = Mapping(domain).map(frame, writable=True)
        try:
            self._bind(port)
            self._connect()
        except BaseException:
            self.close()
            raise

    def _bind(self, port: int) -> None:
        """A guest without a port, such as a dead one, can still be read."""
        events = self._events = EventChannels(self._domain.xen)
        with suppress(errors.HypercallError):
            self._local = events.bind_interdomain(self._domain.domid, port)

    def _connect(self) -> None:
        """Since Xen 4.21 a guest may check whether its console is connected. Older ones do not use that
        byte."""
        with memoryview(self._mapped) as view:
            self._was_disconnected = view[CONNECTION_OFFSET] == DISCONNECTED
            if self._was_disconnected:
                view[CONNECTION_OFFSET] = CONNECTED
        self._notify()

    def fileno(self) -> int | None:
        """Readable after an event of the guest; None without an event channel."""
        return self._events.fileno() if self._events and self._local else None

    def hush(self) -> None:
        """Clear the guest's event: once, as a guest can send others without end."""
        if self._events is not None:
            self._events.wait(0)

    def read(self) -> bytes:
        """The unread output of the guest, at most 2048 bytes.

        DecodeError if the ring claims more; then everything in it is skipped.
        """
        with memoryview(self._mapped) as view:
            cons, prod = self._index(view, _OUT_CONS), self._index(view, _OUT_PROD)
            waiting = (prod - cons) % _U32
            data = _taken(view[IN_BYTES : IN_BYTES + OUT_BYTES], cons, min(waiting, OUT_BYTES))
            if waiting:
                self._put(view, _OUT_CONS, prod)
        if waiting:
            self._notify()
        if waiting > OUT_BYTES:
            who = f"the guest of domain {self._domain.domid}"
            raise errors.DecodeError(f"{who} reports {waiting} bytes in a ring of {OUT_BYTES}")
        return data

    def write(self, data: bytes) -> int:
        """Type as much as fits in the ring; returns the number of bytes. DecodeError as for read()."""
        with memoryview(self._mapped) as view:
            cons, prod = self._index(view, _IN_CONS), self._index(view, _IN_PROD)
            waiting = (prod - cons) % _U32
            if waiting > IN_BYTES:
                who = f"the guest of domain {self._domain.domid}"
                raise errors.DecodeError(f"{who} reports {waiting} bytes in a ring of {IN_BYTES}")
            data = data[: IN_BYTES - waiting]
            place = prod % IN_BYTES
            first = min(len(data), IN_BYTES - place)
            view[place : place + first] = data[:first]
            view[: len(data) - first] = data[first:]
            self._put(view, _IN_PROD, (prod + len(data)) % _U32)
        if data:
            self._notify()
        return len(data)

    def _index(self, view: memoryview, which: int) -> int:
        with view[_INDICES] as some, some.cast("I") as indices:
            value = indices[which]
        return self._swapped(value)

    def _put(self, view: memoryview, which: int, value: int) -> None:
        """Write in one store, so that the guest never sees half of it."""
        with view[_INDICES] as some, some.cast("I") as indices:
            indices[which] = self._swapped(value)

    def _swapped(self, value: int) -> int:
        """Convert between the machine's byte order and this process's."""
        return int.from_bytes(value.to_bytes(4, sys.byteorder), self._domain.xen.interface.byteorder)

    def _notify(self) -> None:
        if self._events is not None and self._local:
            with suppress(errors.HypercallError):
                self._events.notify(self._local)

    def close(self) -> None:
        """Unmap it, so that another program can serve it. May be called again."""
        if self._was_disconnected and not self._mapped.closed:
            with memoryview(self._mapped) as view:
                view[CONNECTION_OFFSET] = DISCONNECTED
        self._mapped.close()
        if self._events is not None:
            self._events.close()


def last(domain: Identity, frame: int) -> bytes:
    """The last output of a guest that its ring still has, read or not; changes nothing."""
    page = Mapping(domain).read(frame)
    start = IN_BYTES + OUT_BYTES + 4 * _OUT_PROD
    prod = int.from_bytes(page[start : start + 4], domain.xen.interface.byteorder)
    out = page[IN_BYTES : IN_BYTES + OUT_BYTES]
    return (out[prod % OUT_BYTES :] + out[: prod % OUT_BYTES]).lstrip(b"\0")


def _taken(ring: memoryview, start: int, count: int) -> bytes:
    """Bytes from an index, at most one round."""
    with ring:
        place = start % len(ring)
        first = min(count, len(ring) - place)
        return bytes(ring[place : place + first]) + bytes(ring[: count - first])
