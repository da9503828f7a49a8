# SPDX-License-Identifier: MIT
"""Which frames a domain owns."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterator
from itertools import compress, repeat
from operator import ne
from typing import TYPE_CHECKING, NamedTuple

from pyxc import errors
from pyxc._core import select_frames
from pyxc.abi import domctl, memory
from pyxc.abi.domctl import PageType
from pyxc.p2m import P2mReader, open_p2m

if TYPE_CHECKING:
    from pyxc.domain import Domain, DomainInfo

_TYPES_AT_ONCE = 1024
_GETMEMLIST_MOST = 1 << 20
_SLACK = 1 << 10


class FrameList(NamedTuple):
    """The frames that a domain owns, in no order.

    `frames`: array of u64, machine frames (mfn) of a PV domain, guest frames (gfn) of a translated one.
    `source`: where they come from: "p2m_vaddr" or "frame_list_list" (the guest's own p2m), "getmemlist" (Xen
    up to 4.10), "getpageframeinfo3" (every frame was asked for), "" for a domain without memory. `types`: on
    request, for each frame its PageType >> 28.
    """

    frames: array[int]
    source: str
    translated: bool
    types: array[int] | None = None

    def __repr__(self) -> str:
        kind = "gfns" if self.translated else "mfns"
        return f"<FrameList of {len(self.frames)} {kind} from {self.source or 'nothing'}>"


def list_frames(domain: Domain, types: bool = False, force: bool = False) -> FrameList:
    """The frames that a domain owns, from the best source that its hypervisor has.

    Of a PV guest its p2m; where that cannot be read, getmemlist, which Xen had up to 4.10. Of a translated
    guest getpageframeinfo3 for every gfn. That call, which `types` needs too, populates the on-demand entries
    of a guest: Unsupported on a guest that has any, unless `force`. `force` also finds the frames of a PV
    guest without p2m on a newer Xen, by asking for every frame of the host: slow, and Xen logs each that is
    not the guest's.
    """
    info = domain.info()
    if (types or info.is_hvm) and not force:
        _refuse_on_demand(domain)
    found = _owned(domain, info, force)
    return found._replace(types=array("B", _types(domain, found.frames))) if types else found


def _owned(domain: Domain, info: DomainInfo, force: bool) -> FrameList:
    if info.tot_pages == 0:
        return FrameList(array("Q"), "", info.is_hvm)
    if info.is_hvm:
        last = domain.memory.maximum_gpfn()
        return FrameList(_scan(domain, last, info.tot_pages), domctl.GETPAGEFRAMEINFO3.name, True)
    try:
        with open_p2m(domain, info) as reader:
            return FrameList(reader.steadily(lambda: _collect(reader, info)), reader.source, False)
    except errors.Unsupported:
        if domain.xen.caller.supports(domctl.GETMEMLIST) and info.tot_pages <= _GETMEMLIST_MOST:
            return FrameList(_getmemlist(domain, info.tot_pages), domctl.GETMEMLIST.name, False)
        if force:
            last = domain.xen.call(memory.MAXIMUM_RAM_PAGE).result
            return FrameList(_scan(domain, last, info.tot_pages), domctl.GETPAGEFRAMEINFO3.name, False)
        raise


def _collect(reader: P2mReader, info: DomainInfo) -> array[int]:
    """The plain entries of a p2m, piece by piece. A guest that lists more than it owns is not believed."""
    frames = array("Q", (0,)) * (info.tot_pages + _SLACK)
    count = 0
    for piece in reader.pieces():
        try:
            count += select_frames(piece, frames, count)[0]
        except ValueError as error:
            text = f"the p2m of domain {info.domid} lists more frames than the {info.tot_pages} that it owns"
            raise errors.DecodeError(text) from error
    del frames[count:]
    return frames


def _getmemlist(domain: Domain, count: int) -> array[int]:
    """One call: x86 ignores start_pfn, so the list cannot be had in pieces."""
    reply = domain.xen.call(domctl.GETMEMLIST, domain.domid, max_pfns=count, buffer=8 * count)
    written = reply.field("num_pfns")
    if written > count:
        raise errors.DecodeError(f"the hypervisor claims {written} frames in room for {count}")
    return domain.xen.words(reply.buffers["buffer"][: 8 * written])


def _scan(domain: Domain, last: int, owned: int) -> array[int]:
    """All frames from 0 to `last` that are the domain's, by asking for the type of each.

    The topmost are asked for first: a translated guest has its special pages there, far above its memory, and
    the search ends when as many frames are found as the domain owns.
    """
    found = array("Q")
    top = last - last % _TYPES_AT_ONCE
    for start in (top, *range(0, top, _TYPES_AT_ONCE)):
        frames = range(start, min(start + _TYPES_AT_ONCE, last + 1))
        words = _type_words(domain, array("Q", frames))
        if words.count(PageType.XTAB) < len(words):
            found.extend(compress(frames, map(ne, words, repeat(int(PageType.XTAB)))))
        if len(found) >= owned:
            break
    return found


def _types(domain: Domain, frames: array[int]) -> Iterator[int]:
    """PageType >> 28 of each frame."""
    for start in range(0, len(frames), _TYPES_AT_ONCE):
        for word in _type_words(domain, frames[start : start + _TYPES_AT_ONCE]):
            yield word >> 28


def _type_words(domain: Domain, frames: array[int]) -> array[int]:
    """What getpageframeinfo3 makes of at most 1024 frames."""
    xen = domain.xen
    asked = xen.words(frames.tobytes()).tobytes()
    return xen.words(
        xen.call(domctl.GETPAGEFRAMEINFO3, domain.domid, num=len(frames), array=asked).buffers["array"]
    )


def _refuse_on_demand(domain: Domain) -> None:
    """Asking for the type of a populate-on-demand entry populates it."""
    if not domain.info().is_hvm:
        return
    entries = domain.xen.call(memory.GET_POD_TARGET, domain.domid).field("pod_entries")
    if entries:
        hint = f"{entries} pages are populated on demand and asking would populate them; force=True does it"
        raise errors.Unsupported(
            errno.EOPNOTSUPP, domctl.GETPAGEFRAMEINFO3.full_name, domain.domid, hint=hint
        )
