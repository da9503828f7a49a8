# SPDX-License-Identifier: MIT
"""The stream of a guest as it comes: its events, and the contents of pages straight to where they belong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pyxc.guest import stream
from pyxc.guest.stream import Event

_AHEAD_BYTES = 1 << 17
"""What is read at once, besides contents of pages: many records have none, and few bytes."""
Fill = Callable[[memoryview], int]
"""Reads into a buffer; returns the number of bytes, 0 at the end."""


class IncomingStream:
    """Iterates over the events of a stream, to its end; DecodeError if it is truncated.

    After a PageData the contents may be read with read_contents(): those not read come as Pages. Bytes after
    the end of the stream remain in `reader`. Threads: one at a time.
    """

    def __init__(self, fill: Fill, reader: stream.Reader) -> None:
        self._fill = fill
        self._reader = reader
        self._events = self._read()

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def _read(self) -> Iterator[Event]:
        """All pieces come into one buffer: memory that is allocated for each costs more time than its
        contents."""
        buffer = memoryview(bytearray(_AHEAD_BYTES))
        while count := self._filled(buffer, min(self._reader.due, len(buffer))):
            yield from self._reader.feed(buffer[:count])
            if self._reader.finished:
                return
        self._reader.close()

    def _filled(self, buffer: memoryview, least: int) -> int:
        """Read what there is, and at least so many bytes, which a pipe has in small pieces; 0 at the end."""
        count = 0
        while count < max(1, least) and (more := self._fill(buffer[count:])):
            count += more
        return count

    def read_contents(self, into: memoryview) -> None:
        """Fill a buffer with the next contents of pages, of whole ones. DecodeError if the stream ends."""
        done = self._reader.take_contents(into)
        while done < len(into):
            count = self._fill(into[done:])
            if not count:
                self._reader.close()
            self._reader.passed(count)
            done += count
