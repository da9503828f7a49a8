# SPDX-License-Identifier: MIT
"""Which frames a domain owns."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import compress, repeat
from operator import ne
from typing import Final, Literal

from pyxc import answers, errors
from pyxc._core import byteswap64, select_frames
from pyxc.abi import domctl, memory
from pyxc.abi.domctl import PageType
from pyxc.domain import bounds
from pyxc.domain.frame_types import TYPES_AT_ONCE, refuse_on_demand, type_words, types_of
from pyxc.domain.info import DomainInfo
from pyxc.domain.mapping import Mapping
from pyxc.domain.numbers import Numbers
from pyxc.domain.p2m import PIECE_WORDS, Form, P2mReader, open_p2m
from pyxc.host.host import Host

_PIECE = (1 << 20) // 8 - 512
"""Entries of a list in one request: with the structure they need 1 MiB."""
_TYPE_SHIFT = 28
_NEVER_PINNED = (PageType.BROKEN, PageType.XALLOC, PageType.XTAB)
"""Types whose numbers include the bit of a pin."""


Which = Callable[[Mapping, range], Iterable[int]]
"""Returns which of some frames are the domain's."""

Source = Literal[
    "getmemlist2", "getmemlist", "p2m", "p2m_vaddr", "frame_list_list", "getpageframeinfo3", "map"
]


class FrameList(Numbers):
    """The frames that a domain owns, as a sequence of their numbers.

    `frames` is the same as an array of u64: machine frames (mfn) of a PV domain, in no particular order, or
    guest frames (gfn) of an HVM or PVH domain, sorted. `source` is where they come from: "getmemlist2",
    "getmemlist", "p2m_vaddr", "frame_list_list", "getpageframeinfo3" or "map", or "" for a domain without
    memory. `types` is None, or on request the PageType >> 28 of each frame. Threads: safe to share.

    Example:

    >>> found = web.memory.frames()
    >>> found, len(found), found.source
    (<FrameList of 16384 mfns from p2m_vaddr>, 16384, 'p2m_vaddr')
    """

    __slots__ = ("frames", "source", "translated", "types")

    def __init__(
        self, frames: array[int], source: str, translated: bool, types: array[int] | None = None
    ) -> None:
        self.frames = frames
        self.source = source
        self.translated = translated
        self.types = types

    def _listed(self) -> array[int]:
        return self.frames

    def kinds(self) -> Iterator[tuple[PageType, bool]]:
        """`types` as enum members: the PageType of each frame, and whether it is a pinned page table."""
        for word in (kind << _TYPE_SHIFT for kind in self.types or ()):
            pinned = bool(word & domctl.PAGE_PINNED) and word not in _NEVER_PINNED
            yield PageType(word & ~domctl.PAGE_PINNED if pinned else word), pinned

    @staticmethod
    def sources() -> tuple[str, ...]:
        """The values of `source` that Memory.frames() accepts."""
        return tuple(SOURCES)

    def __repr__(self) -> str:
        kind = "gfns" if self.translated else "mfns"
        return f"<FrameList of {len(self.frames)} {kind} from {self.source or 'nothing'}>"


def list_frames(
    mapping: Mapping,
    types: bool = False,
    force: bool = False,
    source: Source | None = None,
    *,
    everywhere: bool | None = None,
) -> FrameList:
    """The frames that a domain owns, from the best available source, or from `source`.

    On a Xen of 2006 that is the hypervisor's own list: GETMEMLIST2, else GETMEMLIST. On later releases it is
    the p2m of a PV guest or, if that cannot be read, getmemlist, which Xen had up to 4.10. For an HVM or PVH
    guest it is getpageframeinfo3 for every gfn; before Xen 4.0, where only machine frames have types, the
    frames that can be mapped.

    getpageframeinfo3, which `types` also needs, populates memory on demand, so it is Unsupported for a guest
    with such memory, unless `force`. It is also Unsupported for a guest with memory far above the usual
    addresses; `everywhere` (by default equal to `force`) then queries every gfn up to the highest, which can
    take hours. `force` also finds the frames of a PV guest without a p2m on a newer Xen, by querying every
    frame of the host: this is slow, and Xen logs each frame that is not the guest's.
    """
    info = mapping.domain.info()
    if (types or info.is_hvm) and not force:
        refuse_on_demand(mapping)
    if info.is_hvm:
        mapping.refuse_to_populate()
    sources = _sources(mapping, info, force) if source is None else (_known(source),)
    found = _owned(mapping, info, force if everywhere is None else everywhere, sources)
    if types:
        found.types = array("B", types_of(mapping, found.frames))
    return found


def _known(source: Source) -> Source:
    if source not in SOURCES:
        raise ValueError(f"source is {source!r}: expected one of {', '.join(SOURCES)}")
    return source


def _sources(mapping: Mapping, info: DomainInfo, force: bool) -> tuple[str, ...]:
    """The sources to try, best first."""
    if info.is_hvm:
        return ("getpageframeinfo3",) if mapping.xen.caller.supports(domctl.GETPAGEFRAMEINFO3) else ("map",)
    if mapping.xen.interface.dom0_op:
        return ("getmemlist2", "getmemlist")
    return ("p2m", "getmemlist", *(["getpageframeinfo3"] if force else ()))


def _owned(mapping: Mapping, info: DomainInfo, everywhere: bool, sources: tuple[str, ...]) -> FrameList:
    """From the first available source; if none is available, the first refusal is raised."""
    if info.tot_pages == 0:
        return FrameList(array("Q"), "", info.is_hvm)
    refused = None
    for source in sources:
        try:
            return SOURCES[source](mapping, info, everywhere)
        except errors.Unsupported as error:
            refused = refused or error
    assert refused
    raise refused


def _from_p2m(form: Form | None, mapping: Mapping, info: DomainInfo, everywhere: bool) -> FrameList:
    with open_p2m(mapping, info, form) as reader:
        return FrameList(reader.steadily(lambda: _collect(reader, info)), reader.source, False)


def _collect(reader: P2mReader, info: DomainInfo) -> array[int]:
    """The plain entries of a p2m, piece by piece. DecodeError for a guest that lists more than it owns."""
    frames = array("Q")
    window = array("Q", (0,)) * PIECE_WORDS
    window_bytes = memoryview(window).cast("B")
    for piece in reader.pieces():
        count = select_frames(piece, window, 0)[0]
        bounds.check_listed("the p2m", len(frames) + count, info)
        frames.frombytes(window_bytes[: 8 * count])
    return frames


def _getmemlist2(mapping: Mapping, info: DomainInfo, everywhere: bool) -> FrameList:
    """In pieces through one bounded buffer, without a Python integer for each frame."""
    from pyxc.abi import dom0_ops

    frames = array("Q")
    with mapping.xen.caller.listing(dom0_ops.GETMEMLIST2, mapping.domain.domid, 8, _PIECE) as ask:
        while True:
            piece = ask(start_pfn=len(frames), max_pfns=_PIECE)
            bounds.check_listed("the hypervisor's list", len(frames) + len(piece) // 8, info)
            if mapping.xen.swapped:
                byteswap64(piece)
            frames.frombytes(piece)
            if len(piece) < 8 * _PIECE:
                return FrameList(frames, "getmemlist2", False)


def _getmemlist(mapping: Mapping, info: DomainInfo, everywhere: bool) -> FrameList:
    """In one call: x86 ignores start_pfn, so the list cannot be read in pieces."""
    with mapping.xen.caller.listing(domctl.GETMEMLIST, mapping.domain.domid, 8, info.tot_pages) as ask:
        return FrameList(mapping.xen.words(ask(max_pfns=info.tot_pages)), "getmemlist", False)


def _by_type(mapping: Mapping, info: DomainInfo, everywhere: bool) -> FrameList:
    """By the type of every frame: the guest's own for HVM and PVH, else all frames of the host."""
    if info.is_hvm:
        found = _search(mapping, info, everywhere, _with_type)
    else:
        found = _scan(mapping, range(_last_of_the_host(mapping.xen) + 1), info.tot_pages, _with_type)
    return FrameList(found, "getpageframeinfo3", info.is_hvm)


def _last_of_the_host(xen: Host) -> int:
    return answers.frame("maximum_ram_page", xen.call(memory.MAXIMUM_RAM_PAGE).result)


def _by_mapping(mapping: Mapping, info: DomainInfo, everywhere: bool) -> FrameList:
    """By mapping every frame of an HVM or PVH guest, as Xen's own tools did to save one.

    The machine frames of a PV guest can be anywhere on the host, with frames that it shares with Xen.
    """
    if not info.is_hvm:
        hint = "frames can be found by mapping only in HVM and PVH guests, and this is a PV domain"
        raise errors.Unsupported(errno.EOPNOTSUPP, "frames by mapping", info.domid, hint=hint)
    return FrameList(_search(mapping, info, everywhere, _with_memory), "map", info.is_hvm)


SOURCES: Final[dict[str, Callable[[Mapping, DomainInfo, bool], FrameList]]] = {
    "getmemlist2": _getmemlist2,
    "getmemlist": _getmemlist,
    "p2m": partial(_from_p2m, None),
    "p2m_vaddr": partial(_from_p2m, "p2m_vaddr"),
    "frame_list_list": partial(_from_p2m, "frame_list_list"),
    "getpageframeinfo3": _by_type,
    "map": _by_mapping,
}
"""The sources of frames: the two forms of the hypervisor's list, the guest's p2m in its better or in a given
form, the types of all frames, and mapping."""


def _search(mapping: Mapping, info: DomainInfo, everywhere: bool, which: Which) -> array[int]:
    """The frames of an HVM or PVH guest, in order: from 0 to its highest, which the guest itself can choose.

    The topmost are queried first: a guest has its special pages there, far above its memory. The search ends
    when it has found as many frames as the guest owns.
    """
    last = mapping.maximum_gpfn()
    start_of_top = last - last % TYPES_AT_ONCE
    top = _scan(mapping, range(start_of_top, last + 1), info.tot_pages, which)
    most = start_of_top if everywhere else min(start_of_top, bounds.frame_numbers(info.tot_pages))
    found = _scan(mapping, range(most), info.tot_pages - len(top), which)
    missing = info.tot_pages - len(top) - len(found)
    if missing > 0 and most < start_of_top:
        hint = (
            f"{missing} of its {info.tot_pages} pages are somewhere between gfn {most:#x} and {last:#x}; "
            "force=True searches for them, however long that takes"
        )
        raise errors.Unsupported(errno.EOPNOTSUPP, "frames", info.domid, hint=hint)
    found.extend(top)
    return found


def _scan(mapping: Mapping, frames: range, wanted: int, which: Which) -> array[int]:
    """The frames among some that are the domain's, until `wanted` are found."""
    found = array("Q")
    for start in frames[::TYPES_AT_ONCE]:
        if len(found) >= wanted:
            break
        found.extend(which(mapping, range(start, min(start + TYPES_AT_ONCE, frames.stop))))
    return found


def _with_type(mapping: Mapping, frames: range) -> Iterable[int]:
    """Frames with a type."""
    words = type_words(mapping, array("Q", frames))
    none = words.count(PageType.XTAB) == len(words)
    return () if none else compress(frames, map(ne, words, repeat(int(PageType.XTAB))))


def _with_memory(mapping: Mapping, frames: range) -> Iterable[int]:
    """Frames that can be mapped."""
    with mapping.map_present(array("Q", frames)) as mapped:
        refused = mapped.errors
        return [frame for frame, number in zip(frames, refused) if not number] if refused else frames
