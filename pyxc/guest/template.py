# SPDX-License-Identifier: MIT
"""A saved guest that is kept in memory, and restored as often as one wants."""

from __future__ import annotations

import uuid as uuids
from array import array
from collections.abc import Iterator
from contextlib import suppress

from pyxc import errors, undoing
from pyxc._core import PAGE_SIZE
from pyxc.abi.hvm import HvmParam
from pyxc.abi.page import PAGE_KB
from pyxc.domain.domain import Domain
from pyxc.domain.pausing import paused
from pyxc.files.compressed import CompressedFile, Opened
from pyxc.guest import restore, stream
from pyxc.guest.built import BuiltDomain, Making
from pyxc.guest.incoming import IncomingStream
from pyxc.guest.restore_hvm import HvmGuest
from pyxc.guest.restore_pages import NOT_GIVEN
from pyxc.guest.stream import pages as page_lists
from pyxc.guest.stream.records import DomainKind, Event, PageData, Pages
from pyxc.host.pools import Pool

_BLOCK_PAGES = 1 << 10
_SPECIAL_PAGES = 1 << 10
"""Pages that a guest may have beyond its memory, for what it shares with its servers."""
_BETWEEN = (stream.Pages, stream.PageData, stream.Verify)


class Template:
    """A saved guest, read once: start() makes a domain of it each time, without reading the stream again.

    It takes as much memory as the guest has. Made by Xen.template(). Threads: one at a time.
    """

    def __init__(self, making: Making, source: Opened) -> None:
        making.xen.check_writable("restoring a guest")
        self._making = making
        self._before: list[Event] = []
        self._after: list[Event] = []
        self._memory = _Memory()
        self._reverts: dict[uuids.UUID, int] = {}
        with CompressedFile(source) as file:
            self._head = self._read(iter(IncomingStream(file.readinto, stream.Reader())))

    def _read(self, incoming: Iterator[Event]) -> restore.Head:
        head = restore.read_head(incoming)
        restore.check_cpus(self._making.xen, head)
        most = head.settings.memory_kb
        if most is None or head.settings.vcpus is None:
            raise ValueError("the stream does not have the size of the guest, which a template needs")
        self._memory.most = most // PAGE_KB + _SPECIAL_PAGES
        self._keep(head.next)
        for event in incoming:
            self._keep(event)
        return head._replace(settings=head.settings._replace(name=None, uuid=None))

    def _keep(self, event: Event) -> None:
        if isinstance(event, PageData):
            self._memory.list(event)
        elif isinstance(event, Pages):
            self._memory.fill(event)
        elif not isinstance(event, _BETWEEN):
            (self._after if self._memory.pages else self._before).append(event)

    @property
    def nr_pages(self) -> int:
        """How many pages the guest has."""
        return self._memory.pages

    def start(
        self,
        *,
        name: str | None = None,
        uuid: uuids.UUID | str | bytes | None = None,
        paused: bool = False,
        pool: Pool | int | None = None,
        ssidref: int | None = None,
        revertible: bool = False,
    ) -> BuiltDomain:
        """A new domain that continues the guest; see Xen.restore().

        It gets a new UUID, and no name unless one is given: without one it is not introduced to xenstore. If
        the guest has disks, all domains write to the same ones: you must prevent that. `revertible` tracks
        the pages that it writes from now on, for revert(); only for PVH guests, and not with a name, since
        the servers of its rings would have to be reset too.
        """
        if revertible and (name is not None or self._head.kind is DomainKind.PV):
            raise ValueError("only a PVH guest without a name can be revertible")
        held = paused or revertible
        wanted = restore.Wanted(name, uuid, None, None, pool, ssidref, None, held, None, devices=False)
        events = iter((*self._before, *self._memory.events(), *self._after))
        made = restore.made(self._making, self._head._replace(next=next(events)), events, wanted)
        if revertible:
            with undoing.on_failure(made.destroy, f"domain {made.domid} is left, paused"):
                made.log_dirty.enable()
                self._reverts[made.uuid] = made.info().tot_pages
                if not paused:
                    made.unpause()
        return made

    def revert(self, clone: Domain) -> int:
        """Bring a revertible domain back to the state in which it started; returns how many pages that took.

        Only the pages that it has written are copied. It is paused meanwhile, and runs afterwards if it did
        before. ValueError for a domain that start(revertible=True) of this template did not make; GuestUnable
        if it has given up or got memory. If anything fails later, it is left paused: destroy it.
        """
        pages = self._reverts.get(clone.uuid)
        if pages is None:
            raise ValueError(f"domain {clone.domid} was not started revertible from this template")
        done = 0
        with paused(clone):
            if clone.info().tot_pages != pages:
                raise errors.GuestUnable(f"domain {clone.domid} has other memory than at its start")
            written = clone.log_dirty.peek().frames()
            with undoing.on_failure(clone.pause, f"domain {clone.domid} runs, partly reverted"):
                for gfns, contents in self._memory.contents_of(written):
                    with clone.memory.map(gfns, writable=True) as mapped, memoryview(mapped) as view:
                        view[:] = contents
                    done += len(gfns)
                self._reset_hardware(clone)
                clone.log_dirty.clean()
        return done

    def _reset_hardware(self, clone: Domain) -> None:
        """Its channels and registers. It registers its callback for events again, as after any suspend."""
        guest = HvmGuest(clone, self._memory.pages)
        guest.memory.adopt(self._memory.listed())
        for event in self._after:
            guest.take(event)
        clone.channels.reset()
        clone.hvm_params.write(HvmParam.CALLBACK_IRQ, 0)
        rings = guest.finish()
        with suppress(errors.Unsupported):
            clone.grants.seed(console=rings.console_frame, store=rings.store_frame)

    def __repr__(self) -> str:
        return f"<Template of {self.nr_pages} pages>"


class _Memory:
    """The pages of a saved guest as they were last sent. Threads: one at a time."""

    def __init__(self) -> None:
        self.most = 0
        self._slots: dict[int, int] = {}
        self._blocks: list[bytearray] = []
        self._pfns, self._types = array("Q"), bytearray()
        self._empty: dict[int, int] = {}

    @property
    def pages(self) -> int:
        return len(self._pfns) + len(self._empty)

    def list(self, listed: PageData) -> None:
        """Note pages; those without contents have no place. DecodeError if the guest cannot have so many."""
        filled = set(page_lists.with_data(listed).pfns)
        for pfn, kind in zip(listed.pfns, listed.types):
            if pfn in filled:
                self._place(pfn, kind)
            elif kind not in NOT_GIVEN and pfn not in self._slots:
                self._empty[pfn] = kind
        if self.pages > self.most:
            raise errors.DecodeError(f"the stream has more than the {self.most} pages that its guest may own")

    def _place(self, pfn: int, kind: int) -> None:
        slot = self._slots.get(pfn)
        if slot is not None:
            self._types[slot] = kind
            return
        self._empty.pop(pfn, None)
        self._slots[pfn] = len(self._pfns)
        self._pfns.append(pfn)
        self._types.append(kind)
        if len(self._pfns) > len(self._blocks) * _BLOCK_PAGES:
            self._blocks.append(bytearray(_BLOCK_PAGES * PAGE_SIZE))

    def fill(self, pages: Pages) -> None:
        """The contents of noted pages."""
        for place, pfn in enumerate(pages.pfns):
            self._page(pfn)[:] = pages.data[place * PAGE_SIZE : (place + 1) * PAGE_SIZE]

    def _page(self, pfn: int) -> memoryview:
        block, place = divmod(self._slots[pfn], _BLOCK_PAGES)
        return memoryview(self._blocks[block])[place * PAGE_SIZE : (place + 1) * PAGE_SIZE]

    def listed(self) -> PageData:
        return PageData(self._pfns, bytes(self._types))

    def events(self) -> Iterator[Event]:
        """The pages as in a stream, each once; all are named at first, to be allocated in large extents."""
        kinds = {**self._empty, **dict(zip(self._pfns, self._types))}
        pfns = array("Q", sorted(kinds))
        yield PageData(pfns, bytes(map(kinds.__getitem__, pfns)))
        for start in range(0, len(self._pfns), _BLOCK_PAGES):
            pfns = self._pfns[start : start + _BLOCK_PAGES]
            types = bytes(self._types[start : start + _BLOCK_PAGES])
            block = memoryview(self._blocks[start // _BLOCK_PAGES])
            yield Pages(pfns, types, block[: len(pfns) * PAGE_SIZE])

    def contents_of(self, numbers: array[int]) -> Iterator[tuple[array[int], bytearray]]:
        """The contents of some pages, as far as they have any, in pieces of bounded size."""
        found = array("Q", (pfn for pfn in numbers if pfn in self._slots))
        for start in range(0, len(found), _BLOCK_PAGES):
            part = found[start : start + _BLOCK_PAGES]
            yield part, bytearray().join(map(self._page, part))
