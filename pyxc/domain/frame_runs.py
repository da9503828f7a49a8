# SPDX-License-Identifier: MIT
"""What a domain's address space consists of: runs of frames of one kind, in order."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Literal, NamedTuple

from pyxc import errors
from pyxc._core import consecutive_words
from pyxc.abi.domctl import PAGE_PINNED, PageType
from pyxc.domain import bounds
from pyxc.domain.frame_types import TYPES_AT_ONCE, refuse_on_demand, type_words
from pyxc.domain.info import DomainInfo
from pyxc.domain.mapping import Mapping
from pyxc.domain.p2m import ABSENT, FOREIGN_BIT, IDENTITY_BIT, open_p2m

FrameKind = Literal[
    "memory", "l1tab", "l2tab", "l3tab", "l4tab", "hole", "foreign", "identity", "paged", "xalloc", "broken"
]
"""The kinds of frames: ordinary memory; page tables of four levels; no frame; a frame of another domain or of
Xen; one that a PV guest maps one to one, as a device's; paged out; allocated only; broken."""

Progress = Callable[[int, int], None]
"""Called with the pages found so far, and those that the domain owns."""

_NR_2M = 512
"""Frames in 2 MiB."""
_FOREIGN, _IDENTITY = 0x6 << 28, 0x7 << 28
"""Beside the types of Xen, which do not have these numbers."""
_KINDS: dict[int, FrameKind] = {
    PageType.NOTAB: "memory",
    PageType.L1TAB: "l1tab",
    PageType.L2TAB: "l2tab",
    PageType.L3TAB: "l3tab",
    PageType.L4TAB: "l4tab",
    PageType.XTAB: "hole",
    PageType.PAGEDTAB: "paged",
    PageType.XALLOC: "xalloc",
    PageType.BROKEN: "broken",
    _FOREIGN: "foreign",
    _IDENTITY: "identity",
}


class FrameRun(NamedTuple):
    """Consecutive frames of one kind: `nr_frames` from `first` on, gfns, or pfns of a PV domain.

    `pinned` are page tables that the guest has pinned. `nr_2m` is how many whole, aligned 2 MiB of memory
    are in it: those that superpages can map, and in a PV domain, those that are contiguous machine memory.

    Example:

    >>> next(db1.memory.runs())
    FrameRun(first=0, nr_frames=32768, kind='memory', pinned=False, nr_2m=64)
    """

    first: int
    nr_frames: int
    kind: FrameKind
    pinned: bool
    nr_2m: int


class _Section(NamedTuple):
    """Frames of one type word, that may continue in the next section."""

    first: int
    nr_frames: int
    word: int
    nr_2m: int


def frame_runs(mapping: Mapping, force: bool, progress: Progress | None) -> Iterator[FrameRun]:
    """The address space of a domain from frame 0 up to its highest, in bounded memory."""
    info = mapping.domain.info()
    if info.tot_pages == 0:
        return iter(())
    if not force:
        refuse_on_demand(mapping)
    mapping.refuse_to_populate()
    report = progress or (lambda done, total: None)
    find = _translated if info.is_hvm else _published
    return map(_run, _joined(find(mapping, info, force, report)))


def _run(section: _Section) -> FrameRun:
    first, count, word, nr_2m = section
    pinned = bool(word & PAGE_PINNED) and word not in _KINDS
    kind = _KINDS.get(word & ~PAGE_PINNED if pinned else word)
    if kind is None:
        raise errors.DecodeError(f"frame {first:#x} has the unknown type {word:#x}")
    return FrameRun(first, count, kind, pinned, nr_2m)


def _joined(sections: Iterator[_Section]) -> Iterator[_Section]:
    """The same sections, as few as possible."""
    last = next(sections, None)
    for section in sections:
        assert last
        if section.word == last.word:
            last = last._replace(
                nr_frames=last.nr_frames + section.nr_frames, nr_2m=last.nr_2m + section.nr_2m
            )
        else:
            yield last
            last = section
    if last:
        yield last


def _translated(mapping: Mapping, info: DomainInfo, force: bool, report: Progress) -> Iterator[_Section]:
    """The gfns of an HVM or PVH domain; see list_frames() for `force`.

    The guest can choose its highest gfn, so the search ends when all that it owns is found. The topmost,
    where a guest has its special pages, are asked for first.
    """
    last = mapping.maximum_gpfn()
    start_of_top = last - last % TYPES_AT_ONCE
    top = list(_typed(mapping, range(start_of_top, last + 1)))
    found = sum(map(_present, top))
    most = start_of_top if force else min(start_of_top, bounds.frame_numbers(info.tot_pages))
    start = 0
    while start < most and found < info.tot_pages:
        stop = min(start + TYPES_AT_ONCE, most)
        for section in _typed(mapping, range(start, stop)):
            found += _present(section)
            yield section
        start = stop
        report(found, info.tot_pages)
    if found < info.tot_pages and most < start_of_top:
        hint = f"{info.tot_pages - found} of its pages are above gfn {most:#x}; force=True searches for them"
        raise errors.Unsupported(errno.EOPNOTSUPP, "frames", info.domid, hint=hint)
    if start < start_of_top:
        yield _Section(start, start_of_top - start, PageType.XTAB, 0)
    yield from top


def _present(section: _Section) -> int:
    return 0 if section.word == PageType.XTAB else section.nr_frames


def _typed(mapping: Mapping, frames: range) -> Iterator[_Section]:
    words = type_words(mapping, array("Q", frames))
    for first, count, word in _grouped(words, frames.start):
        nr_2m = max(0, (first + count) // _NR_2M - -(-first // _NR_2M)) if word == PageType.NOTAB else 0
        yield _Section(first, count, word, nr_2m)


def _grouped(words: array[int], start: int) -> Iterator[tuple[int, int, int]]:
    """First, count and word of equal words in succession."""
    if words.count(words[0]) == len(words):
        yield start, len(words), words[0]
        return
    for word, group in groupby(words):
        count = sum(1 for _ in group)
        yield start, count, word
        start += count


def _published(mapping: Mapping, info: DomainInfo, force: bool, report: Progress) -> Iterator[_Section]:
    """The pfns of a PV domain, as the guest publishes them, with the types that Xen knows."""
    start = listed = 0
    with open_p2m(mapping, info) as reader:
        for piece in reader.pieces():
            entries = array("Q")
            entries.frombytes(piece)
            for offset in range(0, len(entries), TYPES_AT_ONCE):
                some = entries[offset : offset + TYPES_AT_ONCE]
                words = _words_of(mapping, some)
                listed += sum(1 for entry in some if entry < IDENTITY_BIT)
                bounds.check_listed("the p2m", listed, info)
                for first, count, word in _grouped(words, 0):
                    nr_2m = _contiguous(some, first, first + count) if word == PageType.NOTAB else 0
                    yield _Section(start + first, count, word, nr_2m)
                start += len(some)
                report(min(listed, info.tot_pages), info.tot_pages)


def _words_of(mapping: Mapping, entries: array[int]) -> array[int]:
    """The type of each entry of a p2m."""
    if entries.count(ABSENT) == len(entries):
        return array("Q", [PageType.XTAB]) * len(entries)
    plain = array("Q", [entry for entry in entries if entry < IDENTITY_BIT])
    types = iter(type_words(mapping, plain))
    return array("Q", [_own(next(types)) if entry < IDENTITY_BIT else _apart(entry) for entry in entries])


def _own(word: int) -> int:
    """A frame that the guest lists, and that Xen knows nothing of, is not the guest's."""
    return _FOREIGN if word == PageType.XTAB else word


def _apart(entry: int) -> int:
    if entry == ABSENT:
        return PageType.XTAB
    return _FOREIGN if entry & FOREIGN_BIT else _IDENTITY


def _contiguous(entries: array[int], start: int, stop: int) -> int:
    """How many aligned 2 MiB of pfns have aligned, consecutive machine frames."""
    count = 0
    for first in range(-(-start // _NR_2M) * _NR_2M, stop - _NR_2M + 1, _NR_2M):
        frame = entries[first]
        if frame % _NR_2M == 0:
            count += entries[first : first + _NR_2M].tobytes() == consecutive_words(frame, _NR_2M)
    return count
