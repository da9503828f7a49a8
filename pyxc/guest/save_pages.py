# SPDX-License-Identifier: MIT
"""The memory of a guest that is saved: its pages and their contents, a few MiB at a time."""

from __future__ import annotations

import errno
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import compress
from typing import NamedTuple

from pyxc import answers, errors
from pyxc._core import PAGE_SIZE
from pyxc.abi.domctl import PageType
from pyxc.domain import bounds
from pyxc.domain.frame_types import refuse_on_demand, type_words
from pyxc.domain.identity import Identity
from pyxc.domain.info import DomainInfo
from pyxc.domain.mapping import Mapping
from pyxc.guest.guest_memory import lent
from pyxc.guest.stream import pages as page_lists
from pyxc.guest.stream.records import Event, PageData, Pages

Send = Callable[[Event], None]
_HOLE = int(PageType.XTAB) >> 28
_TYPE_MOST = 15 << 28
_TYPE_BYTE = 3 if sys.byteorder == "little" else 4
"""The byte of a u64 with the bits 24 to 31."""
_HIGH_HALF = bytes(byte >> 4 for byte in range(256))
_SPECIAL = (0xFC000,)
PAGES_AT_ONCE = 1 << 12
"""Pages mapped at once, and in a record of the stream, 16 MiB."""
_COPIED_AT_ONCE = 1 << 8
"""Pages, 1 MiB: what is copied is still in a cache of the processor when it is sent."""
_IS_THERE = bytes(kind != _HOLE for kind in range(256))


class Finished(NamedTuple):
    """Contents of pages that are not sent as they are, by their places, and the places of those for which
    there are none now, with the reason."""

    contents: dict[int, memoryview]
    refused: dict[int, str]


class GuestPages:
    """The pages of one guest, by the numbers that it has for them. Threads: one at a time.

    A running guest may give up pages while they are sent: these are `late`, and are checked again once it has
    stopped. `copies`: what they are sent to may read them twice, and must find the same.
    """

    def __init__(self, domain: Identity, send: Send) -> None:
        self._domain = domain
        self.mapping = Mapping(domain)
        self._send = send
        self._late = array("Q")
        self.copies = True

    @cached_property
    def _buffer(self) -> memoryview:
        return memoryview(bytearray(_COPIED_AT_ONCE * PAGE_SIZE))

    def send_all(self, running: bool) -> Iterator[int]:
        """Send every page; yields the number of pages from time to time. Unsupported if some cannot be
        found."""
        raise NotImplementedError

    def send_some(self, numbers: array[int], running: bool) -> Iterator[int]:
        """Send written pages again; with the late ones, once the guest has stopped."""
        if not running:
            numbers = numbers + _without(self._late, numbers)
        for start in range(0, len(numbers), PAGES_AT_ONCE):
            part = numbers[start : start + PAGES_AT_ONCE]
            self._send_window(part, running)
            yield len(part)

    def _frames(self, numbers: array[int]) -> tuple[array[int], array[int]]:
        """Those of some pages that may be there, and their frames."""
        return numbers, numbers

    def _finished(self, pages: PageData, contents: memoryview) -> Finished:
        return Finished({}, {})

    def _send_window(self, numbers: array[int], running: bool) -> int:
        """Send the pages that exist among at most PAGES_AT_ONCE; returns their number."""
        while True:
            there, frames = self._there(*self._frames(numbers))
            wanted = page_lists.with_data(there)
            frames = page_lists.with_data(PageData(frames, there.types)).pfns
            refused = self._send_pages(there, wanted, frames)
            if not refused:
                return len(there.pfns)
            if not running:
                raise self._lost(*next(iter(refused.items())))
            self._postpone(refused)
            numbers = _without(there.pfns, refused)

    def _send_pages(self, there: PageData, wanted: PageData, frames: array[int]) -> dict[int, str]:
        """Send pages, `wanted` with their contents, straight from where they are if that is possible.

        If some of them cannot be sent, none are sent: returns these, with the reasons.
        """
        if not frames:
            if there.pfns:
                self._send(there)
            return {}
        with self._domain.xen.link.map_frames(self._domain.domid, frames) as mapped:
            self._domain.look()
            if mapped.errors:
                places = (place for place, number in enumerate(mapped.errors) if number)
                return {wanted.pfns[place]: "" for place in places}
            with lent(mapped) as view:
                finished = self._finished(wanted, view)
                if not finished.refused:
                    self._send(there)
                    self._send_contents(wanted, view, finished.contents)
                return {wanted.pfns[place]: reason for place, reason in finished.refused.items()}

    def _send_contents(self, pages: PageData, view: memoryview, finished: dict[int, memoryview]) -> None:
        start = 0
        for place, contents in finished.items():
            self._send_as_they_are(pages, view, range(start, place))
            start = place + 1
            self._send(Pages(pages.pfns[place:start], pages.types[place:start], contents))
        self._send_as_they_are(pages, view, range(start, len(pages.pfns)))

    def _send_as_they_are(self, pages: PageData, view: memoryview, places: range) -> None:
        at_once = _COPIED_AT_ONCE if self.copies else max(1, len(places))
        for start in places[::at_once]:
            part = slice(start, min(start + at_once, places.stop))
            with view[part.start * PAGE_SIZE : part.stop * PAGE_SIZE] as contents:
                if self.copies:
                    copy = self._buffer[: len(contents)]
                    copy[:] = contents
                self._send(Pages(pages.pfns[part], pages.types[part], copy if self.copies else contents))

    def _lost(self, number: int, reason: str) -> errors.Error:
        """The error for a page that cannot be sent."""
        if reason:
            return errors.GuestUnable(reason)
        hint = f"frame {number:#x} is not there any more"
        return errors.from_errno(errno.EINVAL, "privcmd.mmapbatch", self._domain.domid, hint=hint)

    def _there(self, numbers: array[int], frames: array[int]) -> tuple[PageData, array[int]]:
        """Which of these pages the guest has, their types, and their frames."""
        words = type_words(self.mapping, frames)
        answers.number("the type of a frame", max(words, default=0), _TYPE_MOST)
        types = words.tobytes()[_TYPE_BYTE::8].translate(_HIGH_HALF)
        if _HOLE not in types:
            return PageData(numbers, types), frames
        mask = types.translate(_IS_THERE)
        there = PageData(array("Q", compress(numbers, mask)), types.translate(None, bytes((_HOLE,))))
        return there, array("Q", compress(frames, mask))

    def _postpone(self, numbers: Iterable[int]) -> None:
        self._late.extend(set(numbers).difference(self._late))
        bounds.check_listed("the pages given away during the save", len(self._late), self._domain.info())


class HvmPages(GuestPages):
    """The pages of one PVH guest, numbered by guest frames."""

    def __init__(self, domain: Identity, send: Send) -> None:
        super().__init__(domain, send)
        refuse_on_demand(self.mapping)

    def send_all(self, running: bool) -> Iterator[int]:
        """First where builders put a guest's special pages: at the top, and for tables of ACPI (xl too) below
        4 GiB. The search ends with the last page that it owns, unless it runs and may get others meanwhile.
        """
        info = self._domain.info()
        last = self.mapping.maximum_gpfn()
        top = last - last % PAGES_AT_ONCE
        most = min(top, bounds.frame_numbers(info.tot_pages))
        first = (top, *(start for start in _SPECIAL if start < most))
        found = 0
        for start in (*first, *(start for start in range(0, most, PAGES_AT_ONCE) if start not in first)):
            if not running and found >= info.tot_pages:
                return
            stop = last + 1 if start == top else min(start + PAGES_AT_ONCE, most)
            count = self._send_window(array("Q", range(start, stop)), running)
            found += count
            if count:
                yield count
        if found < info.tot_pages and not running and most < top:
            raise self._hidden(info, found, most, last)

    def _hidden(self, info: DomainInfo, found: int, most: int, last: int) -> errors.Unsupported:
        hint = f"{info.tot_pages - found} of its pages are somewhere between gfn {most:#x} and {last:#x}"
        return errors.Unsupported(errno.EOPNOTSUPP, "saving a domain", info.domid, hint=hint)


def _without(frames: array[int], some: Iterable[int]) -> array[int]:
    left_out = set(some)
    return array("Q", (frame for frame in frames if frame not in left_out))
