# SPDX-License-Identifier: MIT
"""Saving a PV guest: its machine frames become pfns, in its page tables and its registers."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain, compress
from mmap import mmap

from pyxc import answers, errors
from pyxc._core import PAGE_SIZE, number_frames, pick_words
from pyxc.abi import memory
from pyxc.domain import tsc, vcpu_state
from pyxc.domain.identity import Identity
from pyxc.domain.info import DomainInfo
from pyxc.domain.p2m import ABSENT, read_published
from pyxc.domain.vcpus import Vcpu
from pyxc.guest import pv_layout
from pyxc.guest.pv_layout import WIDTHS
from pyxc.guest.save_pages import PAGES_AT_ONCE, Finished, GuestPages, Send
from pyxc.guest.stream.records import (
    DomainKind,
    Event,
    PageData,
    PvInfo,
    PvP2mFrames,
    PvVcpu,
    RecordType,
    SharedInfo,
)

_FRAMES_MOST = 1 << 36
_NUMBER_BYTES = 8
_COMPARED_AT_ONCE = 512


class PvPages(GuestPages):
    """The pages of one PV guest, numbered by pfns, with its p2m as the guest publishes it."""

    def __init__(self, domain: Identity, send: Send) -> None:
        super().__init__(domain, send)
        self._width = WIDTHS[domain.guest_bits()]
        self._numbers = self._blank_numbers()
        self._p2m, self._leaves = array("Q"), array("Q")
        self.read_p2m()

    def _blank_numbers(self) -> mmap:
        """A number for each frame of the host. Only the parts that are written take memory."""
        last = self._domain.xen.call(memory.MAXIMUM_RAM_PAGE).result
        frames = answers.number("maximum_ram_page", last, _FRAMES_MOST) + 1
        try:
            return mmap(-1, _NUMBER_BYTES * frames)
        except (OSError, OverflowError, ValueError):
            hint = f"the host has {frames} frames, too many for a Python of this word size"
            raise errors.Unsupported(errno.ENOMEM, "saving a domain", self._domain.domid, hint=hint) from None

    def read_p2m(self) -> array[int]:
        """Read the p2m again; returns the pfns whose frames are others now."""
        before, self._p2m = self._p2m, array("Q")
        p2m, self._leaves = read_published(self.mapping)
        self._p2m = p2m.entries
        changed = array("Q")
        if before != self._p2m:
            kept = min(len(before), len(self._p2m))
            for start in range(0, kept, _COMPARED_AT_ONCE):
                part = slice(start, min(start + _COMPARED_AT_ONCE, kept))
                if before[part] != self._p2m[part]:  # the guest is stopped, and few parts are others
                    pairs = zip(before[part], self._p2m[part])
                    changed.extend(pfn for pfn, (old, new) in enumerate(pairs, start) if old != new)
            self._forget(chain((before[pfn] for pfn in changed), before[kept:]))
            changed.extend(range(kept, len(self._p2m)))
        number_frames(self._p2m, self._numbers, 0)
        return changed

    def _forget(self, frames: Iterable[int]) -> None:
        with memoryview(self._numbers) as octets, octets.cast("Q") as numbers:
            for frame in frames:
                if frame < len(numbers):
                    numbers[frame] = 0

    def p2m_frames(self) -> PvP2mFrames:
        """Where the guest has its p2m."""
        return PvP2mFrames(0, len(self._p2m) - 1, array("Q", map(self.pfn_of, self._leaves)))

    def pfn_of(self, frame: int) -> int:
        """GuestUnable for a frame that is not the guest's."""
        number = 0
        if frame < len(self._numbers) // _NUMBER_BYTES:
            with memoryview(self._numbers) as octets, octets.cast("Q") as numbers:
                number = numbers[frame]
        if not number:
            text = f"machine frame {frame:#x} is not in the p2m of domain {self._domain.domid}"
            raise errors.GuestUnable(f"{text}: its guest has not prepared itself to be saved")
        return number - 1

    def send_all(self, running: bool) -> Iterator[int]:
        for start in range(0, len(self._p2m), PAGES_AT_ONCE):
            stop = min(start + PAGES_AT_ONCE, len(self._p2m))
            count = self._send_window(array("Q", range(start, stop)), running)
            if count:
                yield count

    def _frames(self, numbers: array[int]) -> tuple[array[int], array[int]]:
        pages = len(self._p2m)
        if max(numbers, default=0) >= pages:
            numbers = array("Q", [pfn for pfn in numbers if pfn < pages])
        frames = array("Q", bytes(8 * len(numbers)))
        pick_words(self._p2m, numbers, frames)
        if ABSENT not in frames:
            return numbers, frames
        there = [frame != ABSENT for frame in frames]
        return array("Q", compress(numbers, there)), array("Q", compress(frames, there))

    def _finished(self, pages: PageData, contents: memoryview) -> Finished:
        """Page tables with pfns; refused are those that name frames which are not the guest's."""
        finished = Finished({}, {})
        swapped = self._domain.xen.swapped
        for place in pv_layout.tables(pages.types):
            start = place * PAGE_SIZE
            table = memoryview(bytearray(contents[start : start + PAGE_SIZE]))
            with memoryview(self._numbers) as numbers:
                foreign = pv_layout.renumber_table(table, pages.types[place], self._width, numbers, swapped)
            finished.contents[place] = table
            if foreign:
                named = f"a page table of domain {self._domain.domid} (pfn {pages.pfns[place]:#x}) maps frame"
                why = "which is not its own: its guest has not prepared itself to be saved"
                finished.refused[place] = f"{named} {foreign[0]:#x}, {why}"
        return finished


class PvGuest:
    """What is saved of a PV guest. Threads: one at a time."""

    kind = DomainKind.PV

    def __init__(self, domain: Identity, info: DomainInfo, send: Send) -> None:
        self._domain = domain
        self._info = info
        self._width = WIDTHS[domain.guest_bits()]
        self.pages = PvPages(domain, send)

    def static(self) -> Iterator[Event]:
        """What does not change while it runs."""
        yield PvInfo(self._width.entry_bytes, self._width.levels)

    def layout(self) -> Iterator[Event]:
        """What must be known before its pages."""
        yield self.pages.p2m_frames()

    def changed_layout(self) -> tuple[list[Event], array[int]]:
        """The same once it has stopped, if it has changed, and the pages that are others now."""
        before = self.pages.p2m_frames()
        changed = self.pages.read_p2m()
        now = self.pages.p2m_frames()
        return ([] if now == before else [now]), changed

    def state(self) -> Iterator[Event]:
        """What is only known once it has stopped."""
        yield tsc.read(self._domain)
        info = self._domain.info()
        answers.frame("shared_info_frame", info.shared_info_frame)
        yield SharedInfo(self.pages.mapping.read(info.shared_info_frame))
        for index in range(info.max_vcpu_id + 1):
            vcpu = Vcpu(self._domain, index)
            if vcpu.online():
                yield from self._vcpu(vcpu)

    def _vcpu(self, vcpu: Vcpu) -> Iterator[Event]:
        context = pv_layout.renumber_registers(vcpu.context(), self._width, self.pages.pfn_of, saving=True)
        if vcpu.index == 0:
            name = self._width.suspend
            context = context.replace(**{name: self.pages.pfn_of(context[name])})
        parts = {
            RecordType.X86_PV_VCPU_BASIC: context.encode(),
            RecordType.X86_PV_VCPU_EXTENDED: vcpu_state.read_extended(vcpu),
            RecordType.X86_PV_VCPU_XSAVE: vcpu_state.read_xstate(vcpu),
            RecordType.X86_PV_VCPU_MSRS: vcpu_state.read_msrs(vcpu),
        }
        for part, data in parts.items():
            if data:
                yield PvVcpu(part, vcpu.index, data)
