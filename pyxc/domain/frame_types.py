# SPDX-License-Identifier: MIT
"""The types of a domain's frames: ordinary memory, page tables, holes."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterator

from pyxc import answers, errors
from pyxc.abi import domctl, memory
from pyxc.domain.mapping import Mapping

TYPES_AT_ONCE = 1024
_TYPE_MOST = 15
_FRAME_MASK = 2**28 - 1
"""The frame in a word of getpageframeinfo2; the rest is its type."""


def types_of(mapping: Mapping, frames: array[int]) -> Iterator[int]:
    """PageType >> 28 of each frame."""
    for start in range(0, len(frames), TYPES_AT_ONCE):
        words = type_words(mapping, frames[start : start + TYPES_AT_ONCE])
        answers.number("the type of a frame", max(words) >> 28, _TYPE_MOST)
        for word in words:
            yield word >> 28


def type_words(mapping: Mapping, frames: array[int]) -> array[int]:
    """The PageType of each frame, pinned or not."""
    ask = _type_words if mapping.xen.caller.supports(domctl.GETPAGEFRAMEINFO3) else _former_type_words
    words = array("Q")
    for start in range(0, len(frames), TYPES_AT_ONCE):
        words.extend(ask(mapping, frames[start : start + TYPES_AT_ONCE]))
    return words


def _type_words(mapping: Mapping, frames: array[int]) -> array[int]:
    """Of at most TYPES_AT_ONCE frames (domctl getpageframeinfo3)."""
    xen = mapping.xen
    asked = xen.words(frames.tobytes()).tobytes()
    return xen.words(
        mapping.domain.call(domctl.GETPAGEFRAMEINFO3, num=len(frames), array=asked).buffers["array"]
    )


def _former_type_words(mapping: Mapping, frames: array[int]) -> array[int]:
    """The same before Xen 4.0: types are the upper bits of 32-bit machine frames (of 64-bit ones in 2006)."""
    hint = ""
    if mapping.domain.info().is_hvm:
        hint = "before Xen 4.0 only machine frames have types, and this domain has guest frames"
    elif max(frames, default=0) & ~_FRAME_MASK:
        hint = f"before Xen 4.0 only frames up to {_FRAME_MASK:#x} have types"
    if hint:
        raise errors.Unsupported(errno.EOPNOTSUPP, "getpageframeinfo2", mapping.domain.domid, hint=hint)
    xen = mapping.xen
    operation, words, code = domctl.GETPAGEFRAMEINFO2, xen.words32, "I"
    if xen.interface.dom0_op:
        from pyxc.abi import dom0_ops

        operation, words, code = dom0_ops.GETPAGEFRAMEINFO2, xen.words, "Q"
    asked = words(array(code, frames).tobytes()).tobytes()
    reply = mapping.domain.call(operation, num=len(frames), array=asked)
    return array("Q", [word & ~_FRAME_MASK for word in words(reply.buffers["array"])])


def refuse_on_demand(mapping: Mapping) -> None:
    """Reading the type of a populate-on-demand entry populates it. Before Xen 3.4 there are none."""
    if not mapping.domain.info().is_hvm or not mapping.xen.caller.supports(memory.GET_POD_TARGET):
        return
    entries = mapping.domain.call(memory.GET_POD_TARGET).field("pod_entries")
    if entries:
        hint = f"reading the types would populate {entries} pages on demand; force=True does so"
        raise errors.Unsupported(
            errno.EOPNOTSUPP, domctl.GETPAGEFRAMEINFO3.full_name, mapping.domain.domid, hint=hint
        )
