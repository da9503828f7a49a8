# SPDX-License-Identifier: MIT
"""Windows on a domain's memory: runs of pages, mapped when they are first read."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import NamedTuple

from pyxc._core import PAGE_SIZE, POINTER_BITS, ForeignMap
from pyxc.domain.mapping import Mapping

WINDOW_BITS = 21
"""Of 2 MiB, where consecutive frames are one domain's."""
PAGE_BITS = 12
"""Of a page, among machine frames: the next ones are other domains', and Xen logs each that it refuses."""
ABSENT = 2**64 - 1
_MOST_OPEN_BITS = 28 if POINTER_BITS == 64 else 25
_MOST_OPEN = 4096
"""Windows that are open at once: of 256 MiB (32 MiB in a 32-bit process), and no more than this; then the
oldest is closed."""
_TRIES = 5

Frames = Callable[[int, int], "array[int]"]
"""Names the frames of some pages, by the first one and their number; ABSENT for none."""


class Window(NamedTuple):
    """Pages in this process: `places` has the place of each in `view`, None if all are there in order."""

    view: memoryview
    places: dict[int, int] | None
    mapped: ForeignMap | None


class Windows:
    """The memory of a domain by address, read-only: the bytes are the present ones, never a copy.

    A frame that the guest gave back, or got, after its window was mapped is seen after close(). Threads: one
    at a time.
    """

    def __init__(self, mapping: Mapping, frames: Frames, bits: int = WINDOW_BITS) -> None:
        self._mapping = mapping
        self._frames = frames
        self._bits = bits
        self._mask = (1 << bits) - 1
        self._pages = 1 << bits - PAGE_BITS
        self._most = min(_MOST_OPEN, 1 << _MOST_OPEN_BITS - bits)
        self._open: dict[int, Window] = {}
        self.whole: dict[int, memoryview] = {}
        """The open windows, by number, of which all pages are there."""

    def piece(self, address: int, most: int) -> bytes | None:
        """A copy of the bytes from an address on, at most `most`, as many as are contiguous; None for no
        memory."""
        window = self._window(address >> self._bits)
        start = address & self._mask
        if window.places is None:
            return bytes(window.view[start : start + most])
        page, offset = divmod(start, PAGE_SIZE)
        place = window.places.get(page)
        if place is None:
            return None
        start = place * PAGE_SIZE + offset
        return bytes(window.view[start : start + min(most, PAGE_SIZE - offset)])

    def after(self, address: int) -> int:
        """The end of the hole at an address, which is a page, or all of a window without memory."""
        bits = self._bits if self._window(address >> self._bits).mapped is None else PAGE_BITS
        return (address >> bits) + 1 << bits

    def _window(self, number: int) -> Window:
        window = self._open.get(number)
        if window is not None:
            return window
        while len(self._open) >= self._most:
            self._close(next(iter(self._open)))
        self._open[number] = window = self._map(number)
        if window.places is None:
            self.whole[number] = window.view
        return window

    def _close(self, number: int) -> None:
        self.whole.pop(number, None)
        window = self._open.pop(number)
        window.view.release()
        if window.mapped is not None:
            window.mapped.close()

    def _map(self, number: int) -> Window:
        """Frames that cannot be mapped are left out; those that disappear meanwhile, too."""
        frames = self._frames(number * self._pages, self._pages)
        there = [page for page, frame in enumerate(frames) if frame != ABSENT]
        for _ in range(_TRIES):
            if not there:
                break
            mapped = self._mapping.map_present(array("Q", [frames[page] for page in there]))
            if not any(mapped.errors):
                places = None if len(there) == self._pages else {page: at for at, page in enumerate(there)}
                return Window(memoryview(mapped), places, mapped)
            there = [page for page, number in zip(there, mapped.errors) if not number]
            mapped.close()
        return Window(memoryview(b""), {}, None)

    def close(self) -> None:
        """Unmap everything. The next access maps again."""
        while self._open:
            self._close(next(reversed(self._open)))
