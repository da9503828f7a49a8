# SPDX-License-Identifier: MIT
"""The memory of a guest that is saved: its pages and their contents, a few MiB at a time."""

from __future__ import annotations

import errno
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import compress

from pyxc import answers, errors
from pyxc._core import PAGE_SIZE
from pyxc.abi.domctl import PageType
from pyxc.domain import bounds
from pyxc.domain.frames import TYPES_AT_ONCE, refuse_on_demand, type_words
from pyxc.domain.identity import Identity
from pyxc.domain.info import DomainInfo
from pyxc.domain.mapping import Mapping
from pyxc.guest.stream import pages as page_lists
from pyxc.guest.stream.records import Event, PageData, Pages

Send = Callable[[Event], None]
_HOLE = int(PageType.XTAB) >> 28
_TYPE_MOST = 15 << 28
_TYPE_BYTE = 3 if sys.byteorder == "little" else 4
"""The byte of a u64 with the bits 24 to 31."""
_HIGH_HALF = bytes(byte >> 4 for byte in range(256))
_IS_THERE = bytes(kind != _HOLE for kind in range(256))


class HvmPages:
    """The pages of one PVH guest, numbered by guest frames. Threads: one at a time.

    A running guest may give up pages while they are sent: these are `late`, and are checked again once it has
    stopped.
    """

    def __init__(self, domain: Identity, send: Send) -> None:
        self._domain = domain
        self._mapping = Mapping(domain)
        self._send = send
        self._buffer = memoryview(bytearray(TYPES_AT_ONCE * PAGE_SIZE))
        self._late = array("Q")
        refuse_on_demand(self._mapping)

    def send_all(self, running: bool) -> Iterator[int]:
        """Send every page; yields the number of pages from time to time. Unsupported if some cannot be found.

        The topmost pages are first: the special pages of a guest are there, and the search ends with the last
        page that it owns.
        """
        info = self._domain.info()
        last = self._mapping.maximum_gpfn()
        top = last - last % TYPES_AT_ONCE
        most = min(top, bounds.frame_numbers(info))
        found = 0
        for start in (top, *range(0, most, TYPES_AT_ONCE)):
            if found >= info.tot_pages:
                return
            stop = last + 1 if start == top else min(start + TYPES_AT_ONCE, most)
            count = self._send_window(array("Q", range(start, stop)), running)
            found += count
            if count:
                yield count
        if found < info.tot_pages and not running and most < top:
            raise self._hidden(info, found, most, last)

    def send_some(self, frames: array[int], running: bool) -> Iterator[int]:
        """Send written pages again; with the late ones, once the guest has stopped."""
        if not running:
            frames = frames + self._late
        for start in range(0, len(frames), TYPES_AT_ONCE):
            part = frames[start : start + TYPES_AT_ONCE]
            self._send_window(part, running)
            yield len(part)

    def _hidden(self, info: DomainInfo, found: int, most: int, last: int) -> errors.Unsupported:
        hint = f"{info.tot_pages - found} of its pages are somewhere between gfn {most:#x} and {last:#x}"
        return errors.Unsupported(errno.EOPNOTSUPP, "saving a domain", info.domid, hint=hint)

    def _send_window(self, frames: array[int], running: bool) -> int:
        """Send the pages that exist among at most 1024 frames; returns their number."""
        there = self._there(frames)
        wanted, types = page_lists.with_data(there)
        refused = self._read(wanted)
        if refused and not running:
            hint = f"frame {wanted[refused[0]]:#x} is not there any more"
            raise errors.from_errno(errno.EINVAL, "privcmd.mmapbatch", self._domain.domid, hint=hint)
        if refused:
            self._postpone(wanted[place] for place in refused)
            return self._send_window(_without(there.pfns, self._late[-len(refused) :]), running)
        if there.pfns:
            self._send(there)
            contents = self._buffer[: len(wanted) * PAGE_SIZE]
            self._send(Pages(wanted, types, contents))
        return len(there.pfns)

    def _there(self, frames: array[int]) -> PageData:
        """Which of these frames the guest has, and their types."""
        words = type_words(self._mapping, frames) if frames else frames
        answers.number("the type of a frame", max(words, default=0), _TYPE_MOST)
        types = words.tobytes()[_TYPE_BYTE::8].translate(_HIGH_HALF)
        if _HOLE not in types:
            return PageData(frames, types)
        mask = types.translate(_IS_THERE)
        return PageData(array("Q", compress(frames, mask)), types.translate(None, bytes((_HOLE,))))

    def _read(self, frames: array[int]) -> list[int]:
        """Copy some pages into the buffer; returns the places of those that cannot be mapped, if any."""
        if not frames:
            return []
        with self._domain.xen.link.map_frames(self._domain.domid, frames) as mapped:
            self._domain.look()
            if mapped.errors:
                return [place for place, number in enumerate(mapped.errors) if number]
            self._buffer[: len(mapped)] = mapped
        return []

    def _postpone(self, frames: Iterable[int]) -> None:
        self._late.extend(frames)
        bounds.check_listed("the pages given away during the save", len(self._late), self._domain.info())


def _without(frames: array[int], some: array[int]) -> array[int]:
    left_out = set(some)
    return array("Q", (frame for frame in frames if frame not in left_out))
