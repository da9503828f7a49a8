# SPDX-License-Identifier: MIT
"""The memory of a guest that is saved: its pages and their contents, a few MiB at a time."""

from __future__ import annotations

import errno
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import compress

from pyxc import answers, errors
from pyxc._core import PAGE_SIZE
from pyxc.abi.domctl import PageType
from pyxc.domain import bounds
from pyxc.domain.frame_types import TYPES_AT_ONCE, refuse_on_demand, type_words
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
_IS_THERE = bytes(kind != _HOLE for kind in range(256))


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
        """For contents that are not sent as they are."""
        return memoryview(bytearray(TYPES_AT_ONCE * PAGE_SIZE))

    def send_all(self, running: bool) -> Iterator[int]:
        """Send every page; yields the number of pages from time to time. Unsupported if some cannot be
        found."""
        raise NotImplementedError

    def send_some(self, numbers: array[int], running: bool) -> Iterator[int]:
        """Send written pages again; with the late ones, once the guest has stopped."""
        if not running:
            numbers = numbers + _without(self._late, numbers)
        for start in range(0, len(numbers), TYPES_AT_ONCE):
            part = numbers[start : start + TYPES_AT_ONCE]
            self._send_window(part, running)
            yield len(part)

    def _frames(self, numbers: array[int]) -> tuple[array[int], array[int]]:
        """Those of some pages that may be there, and their frames."""
        return numbers, numbers

    def _is_to_finish(self, types: bytes) -> bool:
        """Whether contents of pages of such types are not sent as they are."""
        return False

    def _finished(self, pages: PageData, contents: memoryview) -> list[int]:
        """Finish the contents of some pages; returns the places of those for which that is not possible
        now."""
        return []

    def _send_window(self, numbers: array[int], running: bool) -> int:
        """Send the pages that exist among at most 1024; returns their number."""
        while True:
            there, frames = self._there(*self._frames(numbers))
            wanted = page_lists.with_data(there)
            frames = page_lists.with_data(PageData(frames, there.types)).pfns
            refused = self._send_pages(there, wanted, frames)
            if not refused:
                return len(there.pfns)
            if not running:
                raise self._lost(wanted, refused[0], self._buffer)
            self._postpone(wanted.pfns[place] for place in refused)
            numbers = _without(there.pfns, self._late[-len(refused) :])

    def _send_pages(self, there: PageData, wanted: PageData, frames: array[int]) -> list[int]:
        """Send pages, `wanted` with their contents, straight from where they are if that is possible.

        If some of them cannot be sent, none are sent: returns their places.
        """
        contents = memoryview(b"")
        if frames:
            with self._domain.xen.link.map_frames(self._domain.domid, frames) as mapped:
                self._domain.look()
                if mapped.errors:
                    return [place for place, number in enumerate(mapped.errors) if number]
                with lent(mapped) as view:
                    if not self.copies and not self._is_to_finish(wanted.types):
                        self._send(there)
                        self._send(Pages(*wanted, view))
                        return []
                    contents = self._buffer[: len(view)]
                    contents[:] = view
            refused = self._finished(wanted, contents)
            if refused:
                return refused
        if there.pfns:
            self._send(there)
            self._send(Pages(*wanted, contents))
        return []

    def _lost(self, pages: PageData, place: int, contents: memoryview) -> errors.Error:
        """The error for a page that cannot be sent."""
        hint = f"frame {pages.pfns[place]:#x} is not there any more"
        return errors.from_errno(errno.EINVAL, "privcmd.mmapbatch", self._domain.domid, hint=hint)

    def _there(self, numbers: array[int], frames: array[int]) -> tuple[PageData, array[int]]:
        """Which of these pages the guest has, their types, and their frames."""
        words = type_words(self.mapping, frames) if frames else frames
        answers.number("the type of a frame", max(words, default=0), _TYPE_MOST)
        types = words.tobytes()[_TYPE_BYTE::8].translate(_HIGH_HALF)
        if _HOLE not in types:
            return PageData(numbers, types), frames
        mask = types.translate(_IS_THERE)
        there = PageData(array("Q", compress(numbers, mask)), types.translate(None, bytes((_HOLE,))))
        return there, array("Q", compress(frames, mask))

    def _postpone(self, numbers: Iterable[int]) -> None:
        self._late.extend(numbers)
        bounds.check_listed("the pages given away during the save", len(self._late), self._domain.info())


class HvmPages(GuestPages):
    """The pages of one PVH guest, numbered by guest frames."""

    def __init__(self, domain: Identity, send: Send) -> None:
        super().__init__(domain, send)
        refuse_on_demand(self.mapping)

    def send_all(self, running: bool) -> Iterator[int]:
        """First where builders put a guest's special pages: at the top, and for tables of ACPI (xl too) below
        4 GiB. The search ends with the last page that it owns.
        """
        info = self._domain.info()
        last = self.mapping.maximum_gpfn()
        top = last - last % TYPES_AT_ONCE
        most = min(top, bounds.frame_numbers(info))
        first = (top, *(start for start in _SPECIAL if start < most))
        found = 0
        for start in (*first, *(start for start in range(0, most, TYPES_AT_ONCE) if start not in first)):
            if found >= info.tot_pages:
                return
            stop = last + 1 if start == top else min(start + TYPES_AT_ONCE, most)
            count = self._send_window(array("Q", range(start, stop)), running)
            found += count
            if count:
                yield count
        if found < info.tot_pages and not running and most < top:
            raise self._hidden(info, found, most, last)

    def _hidden(self, info: DomainInfo, found: int, most: int, last: int) -> errors.Unsupported:
        hint = f"{info.tot_pages - found} of its pages are somewhere between gfn {most:#x} and {last:#x}"
        return errors.Unsupported(errno.EOPNOTSUPP, "saving a domain", info.domid, hint=hint)


def _without(frames: array[int], some: array[int]) -> array[int]:
    left_out = set(some)
    return array("Q", (frame for frame in frames if frame not in left_out))
