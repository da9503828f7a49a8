# SPDX-License-Identifier: MIT
"""The p2m of a PV guest: the map from pfns to machine frames that the guest itself keeps and publishes.

shared_info.arch (public/arch-x86/xen.h) says where: a linear list at p2m_vaddr in the page tables of p2m_cr3,
or, in older guests, a tree of frames under pfn_to_mfn_frame_list_list. The guest controls all of this data.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import compress
from typing import Any, Literal, NamedTuple, TypeVar

from pyxc import answers, errors
from pyxc._core import PAGE_SIZE, ForeignMap, select_frames
from pyxc.abi.arch import x86
from pyxc.domain import bounds, paging
from pyxc.domain.info import DomainInfo
from pyxc.domain.mapping import Mapping
from pyxc.domain.numbers import Numbers

ABSENT = 2**64 - 1
FOREIGN_BIT = 1 << 63
IDENTITY_BIT = 1 << 62
_WORDS = PAGE_SIZE // 8
_WINDOW = 256
PIECE_WORDS = _WINDOW * _WORDS
"""The most entries in a piece."""
_PLACED_WORDS = 1 << 22
"""Entries whose memory is allocated before the reading: growing a list of up to 32 MiB may copy it."""
_TRIES = 5
_SINCE_4_6 = {"p2m_cr3": 0, "p2m_vaddr": 0, "p2m_generation": 0}
"""Fields of shared_info.arch that were padding before Xen 4.6: no list, and no counter of changes."""
_SHARED_INFO = {
    8: (x86.SHARED_INFO_STRUCT, x86.ARCH_SHARED_INFO_STRUCT),
    4: (x86.SHARED_INFO_32_STRUCT, x86.ARCH_SHARED_INFO_32_STRUCT),
}
"""The layouts for guests with words of so many bytes."""
T = TypeVar("T")


Form = Literal["p2m_vaddr", "frame_list_list"]
"""The form in which a guest publishes its p2m."""


class Pages(NamedTuple):
    """Pages of a PV domain: arrays of u64, the pfn and the machine frame of each."""

    pfns: array[int]
    frames: array[int]


class P2m(Numbers):
    """The p2m of a PV domain: p2m[pfn] is the machine frame of a pfn, or 2**64-1 for none.

    `entries` is the same as an array of u64. `identity` is an array of pfns that Linux maps one to one (its
    bit 62); `foreign` has pages with frames of other domains (its bit 63); both are absent in `entries`.
    `source` is "p2m_vaddr" or "frame_list_list". Threads: safe to share.

    Example:

    >>> p2m = web.memory.p2m()
    >>> p2m, len(p2m), p2m.foreign
    (<P2m of 16494 pfns from p2m_vaddr>, 16494, Pages(pfns=array('Q', [777]), frames=array('Q', [309249])))
    """

    __slots__ = ("entries", "foreign", "identity", "source")

    def __init__(self, entries: array[int], identity: array[int], foreign: Pages, source: Form) -> None:
        self.entries = entries
        self.identity = identity
        self.foreign = foreign
        self.source = source

    def _listed(self) -> array[int]:
        return self.entries

    def frames(self) -> Iterator[int | None]:
        """`entries`, with None for no frame."""
        return (None if entry == ABSENT else entry for entry in self.entries)

    def __repr__(self) -> str:
        return f"<P2m of {len(self.entries)} pfns from {self.source}>"


class _Form32:
    """Entries of a 32-bit guest: u32, with the marks of Linux one word length lower."""

    ABSENT, FOREIGN_BIT, IDENTITY_BIT = 2**32 - 1, 1 << 31, 1 << 30

    @classmethod
    def widened(cls, entries: array[int]) -> array[int]:
        """The same entries as a 64-bit guest has them."""
        plain = cls.IDENTITY_BIT - 1
        return array("Q", [cls._wide(entry) if entry > plain else entry for entry in entries])

    @classmethod
    def _wide(cls, entry: int) -> int:
        if entry == cls.ABSENT:
            return ABSENT
        marks = FOREIGN_BIT * bool(entry & cls.FOREIGN_BIT) | IDENTITY_BIT * bool(entry & cls.IDENTITY_BIT)
        return marks | entry & cls.IDENTITY_BIT - 1


class P2mReader:
    """Reads the p2m of one domain in pieces of bounded size. Threads: one at a time."""

    def __init__(
        self, mapping: Mapping, info: DomainInfo, shared_info: ForeignMap, source: Form | None
    ) -> None:
        self._mapping = mapping
        self._shared_info = shared_info
        self._entry_bytes = mapping.domain.guest_bits() // 8
        arch = self._arch()
        self.pfns: int = arch["max_pfn"]
        if not self.pfns:
            raise unreadable(mapping, "the guest publishes none")
        if self.pfns > bounds.frame_numbers(info.tot_pages):
            owned = f"too many for its {info.tot_pages} pages"
            raise unreadable(mapping, f"the guest claims {self.pfns} pfns, {owned}")
        self._roots: dict[Form, int] = {
            "p2m_vaddr": arch["p2m_cr3"] and arch["p2m_vaddr"],
            "frame_list_list": arch["pfn_to_mfn_frame_list_list"],
        }
        cr3 = arch["p2m_cr3"]
        self._root = cr3 >> 12 if self._entry_bytes == 8 else x86.frame_of_cr3_32(cr3)
        names = [name for name in self._roots if self._roots[name] and source in (None, name)]
        if not names:
            raise unreadable(mapping, f"the guest publishes no {source or 'p2m'}")
        self.source: Form = names[0]

    def steadily(self, read: Callable[[], T]) -> T:
        """Run `read` until the guest does not change its list during a run (p2m_generation, odd during a
        change)."""
        for _ in range(_TRIES):
            before = self._arch()["p2m_generation"]
            result = read()
            if before % 2 == 0 and before == self._arch()["p2m_generation"]:
                return result
            del result  # before the next one: each can be as large as the guest
        hint = "the guest keeps changing its p2m: pause it first"
        raise errors.from_errno(errno.EAGAIN, "p2m", self._mapping.domain.domid, hint=hint)

    def pieces(self) -> Iterator[Any]:
        """The entries in order of pfn: buffers of native u64, each valid until the next one."""
        left = self._entry_bytes * self.pfns
        at_once = _WINDOW * self._entry_bytes // 8
        for leaves in self.leaves():
            for start in range(0, len(leaves), at_once):
                window = leaves[start : start + at_once]
                size = min(left, PAGE_SIZE * len(window))
                left -= size
                read = self._with_holes if ABSENT in window else self._mapped
                for piece in read(window, size):
                    yield piece if self._entry_bytes == 8 else self._widened(piece)

    def _widened(self, piece: Any) -> memoryview:
        return memoryview(_Form32.widened(self._mapping.xen.words32(bytes(piece)))).cast("B")

    def _mapped(self, leaves: array[int], size: int) -> Iterator[Any]:
        """The first `size` bytes of some pages of entries, in place."""
        with self._mapping.map(leaves) as mapped, memoryview(mapped) as view, view[:size] as piece:
            yield (
                memoryview(self._mapping.xen.words(piece.tobytes())).cast("B")
                if self._mapping.xen.swapped and self._entry_bytes == 8
                else piece
            )

    def _with_holes(self, leaves: array[int], size: int) -> Iterator[Any]:
        """The same, page by page, if some pages do not exist: all their entries are absent."""
        present = array("Q", [leaf for leaf in leaves if leaf != ABSENT])
        blank = b"\xff" * PAGE_SIZE
        if not present:
            yield blank * (size // PAGE_SIZE) + blank[: size % PAGE_SIZE]
            return
        for content in self._mapped(present, PAGE_SIZE * len(present)):
            at = 0
            for start, leaf in zip(range(0, size, PAGE_SIZE), leaves):
                page = blank
                if leaf != ABSENT:
                    page, at = bytes(content[at : at + PAGE_SIZE]), at + PAGE_SIZE
                yield page[: size - start]

    @property
    def _entries_per_page(self) -> int:
        return PAGE_SIZE // self._entry_bytes

    def leaves(self) -> Iterator[array[int]]:
        """The frames that hold the entries, in order, ABSENT for holes; one table's worth at a time."""
        pages = -(-self.pfns // self._entries_per_page)
        return self._linear_leaves(pages) if self.source == "p2m_vaddr" else self._tree_leaves(pages)

    def _linear_leaves(self, pages: int) -> Iterator[array[int]]:
        """Walk the page tables once for every L1 table that maps a part of the list."""
        page = self._roots["p2m_vaddr"] >> 12
        stop = page + pages
        table = self._first_table(page)
        while page < stop:
            first = page % _WORDS
            count = min(_WORDS - first, stop - page)
            yield array("Q", [self._target(entry) for entry in table[first : first + count]])
            page += count
            if page < stop:
                table = self._l1_table(page << 12)

    def _first_table(self, page: int) -> array[int]:
        """The L1 table that maps the first page of the list.

        Until a restored guest runs, p2m_cr3 is what it was before the save. Any vcpu's tables map the list.
        """
        try:
            table = self._l1_table(page << 12)
            if self._target(table[page % _WORDS]) != ABSENT or not self._turn_to_vcpu():
                return table
        except (errors.HypercallError, errors.DecodeError):
            if not self._turn_to_vcpu():
                raise
        return self._l1_table(page << 12)

    def _turn_to_vcpu(self) -> bool:
        """Whether vcpu 0 is known to use other tables, which are read from here on."""
        before = self._root
        with suppress(errors.HypercallError):
            self._root = paging.of_vcpu(self._mapping.domain, 0).root >> 12
        return self._root != before

    def _l1_table(self, address: int) -> array[int]:
        table = self._page(self._root)
        for shift in (39, 30, 21) if self._entry_bytes == 8 else (30, 21):
            entry = table[address >> shift & (_WORDS - 1)]
            frame = self._target(entry)
            if frame == ABSENT:
                return array("Q", bytes(PAGE_SIZE))
            if entry & x86.PTE_PSE and shift != 39:
                raise errors.DecodeError(f"domain {self._mapping.domain.domid} maps its p2m with large pages")
            table = self._page(frame)
        return table

    @staticmethod
    def _target(entry: int) -> int:
        return (entry & x86.PTE_FRAME_MASK) >> 12 if entry & x86.PTE_PRESENT else ABSENT

    def _tree_leaves(self, pages: int) -> Iterator[array[int]]:
        """Three levels of plain frame numbers: list of lists, lists, pages of entries."""
        root, words = self._frame_list(self._roots["frame_list_list"]), self._entries_per_page
        if pages > words * words:
            raise unreadable(self._mapping, "it is too large for a tree of frames")
        for frame in root[: -(-pages // words)]:
            count = min(words, pages)
            pages -= count
            yield self._frame_list(frame)[:count] if frame != ABSENT else array("Q", [ABSENT]) * count

    def _frame_list(self, frame: int) -> array[int]:
        """A page of frame numbers as wide as the guest's words."""
        if self._entry_bytes == 8:
            return self._page(frame)
        answers.frame("a frame of the p2m", frame)
        return _Form32.widened(self._mapping.xen.words32(self._mapping.read(frame)))

    def _page(self, frame: int) -> array[int]:
        answers.frame("a frame of the p2m", frame)
        return self._mapping.xen.words(self._mapping.read(frame))

    def _arch(self) -> dict[str, int]:
        interface = self._mapping.xen.interface
        shared, arch = _SHARED_INFO[self._entry_bytes]
        offset = shared.at(interface).offsets["arch.max_pfn"]
        fields = arch.at(interface).unpack(self._shared_info, offset)
        return {**_SINCE_4_6, **fields}


@contextmanager
def open_p2m(mapping: Mapping, info: DomainInfo, source: Form | None = None) -> Iterator[P2mReader]:
    """A reader of a PV domain's p2m, while its shared_info is mapped.

    `source` selects "p2m_vaddr" or "frame_list_list". Unsupported if there is no such p2m.
    """
    if info.is_hvm:
        raise unreadable(mapping, "only PV domains have one")
    if mapping.xen.interface.arch != "x86_64":
        raise unreadable(mapping, "only x86 guests have one")
    answers.frame("shared_info_frame", info.shared_info_frame)
    with mapping.map(info.shared_info_frame) as shared_info:
        yield P2mReader(mapping, info, shared_info, source)


def unreadable(mapping: Mapping, why: str) -> errors.Unsupported:
    return errors.Unsupported(errno.EOPNOTSUPP, "p2m", mapping.domain.domid, hint=f"no readable p2m: {why}")


def read_p2m(mapping: Mapping, source: Form | None = None) -> P2m:
    """The whole p2m of a PV domain."""
    info = mapping.domain.info()
    with open_p2m(mapping, info, source) as reader:
        return reader.steadily(lambda: _gather(reader, info))


def read_published(mapping: Mapping) -> tuple[P2m, array[int]]:
    """The whole p2m of a PV domain, and the frames that hold it, in order.

    DecodeError for a guest that lists more than it owns, which all its pages would be sent for.
    """
    info = mapping.domain.info()
    with open_p2m(mapping, info) as reader:

        def read() -> tuple[P2m, array[int]]:
            frames = array("Q")
            for leaves in reader.leaves():
                frames.extend(leaves)
            return _gather(reader, info, own=True), frames

        return reader.steadily(read)


def read_pages(mapping: Mapping, info: DomainInfo) -> list[Pages]:
    """The pages that a PV domain lists as its own, in order of pfns, in pieces of bounded size."""
    with open_p2m(mapping, info) as reader:
        return reader.steadily(lambda: _gather_pages(reader, info))


def _gather(reader: P2mReader, info: DomainInfo, own: bool = False) -> P2m:
    """`own`: DecodeError for a guest that lists more than it owns."""
    entries = array("Q", (ABSENT,)) * min(reader.pfns, _PLACED_WORDS)
    identity, foreign = array("Q"), Pages(array("Q"), array("Q"))
    unread = array("Q", (0,)) * PIECE_WORDS
    listed = start = 0
    for piece in reader.pieces():
        found = array("Q")
        found.frombytes(piece)
        stop = start + len(found)
        entries[start:stop] = found
        nr_plain, _, nr_foreign, nr_identity = select_frames(piece, unread, 0)
        listed += nr_plain
        if own:
            bounds.check_listed("the p2m", listed, info)
        if nr_foreign or nr_identity:
            bounds.check_apart(len(identity) + len(foreign.pfns) + nr_foreign + nr_identity, info)
            _set_apart(entries, range(start, stop), identity, foreign)
        start = stop
    return P2m(entries, identity, foreign, reader.source)


def _set_apart(entries: array[int], pfns: range, identity: array[int], foreign: Pages) -> None:
    """Move entries that are not plain frames out of a piece."""
    for pfn in pfns:
        entry = entries[pfn]
        if entry == ABSENT or entry < IDENTITY_BIT:
            continue
        if entry & FOREIGN_BIT:
            foreign.pfns.append(pfn)
            foreign.frames.append(entry & ~(FOREIGN_BIT | IDENTITY_BIT))
        else:
            identity.append(pfn)
        entries[pfn] = ABSENT


def _gather_pages(reader: P2mReader, info: DomainInfo) -> list[Pages]:
    """DecodeError for a guest that lists more than it owns."""
    found: list[Pages] = []
    window = array("Q", (0,)) * PIECE_WORDS
    listed = start = 0
    for piece in reader.pieces():
        count = select_frames(piece, window, 0)[0]
        listed += count
        bounds.check_listed("the p2m", listed, info)
        stop = start + len(piece) // 8
        if count:
            if not found or len(found[-1].pfns) >= PIECE_WORDS:
                found.append(Pages(array("Q"), array("Q")))
            with memoryview(piece) as octets, octets.cast("Q") as entries:
                found[-1].pfns.extend(compress(range(start, stop), map(IDENTITY_BIT.__gt__, entries)))
            found[-1].frames.extend(window[:count])
        start = stop
    return found
