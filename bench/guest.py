# SPDX-License-Identifier: MIT
"""A PV domain that runs no code, but has memory and publishes a p2m like a guest of its size."""

from __future__ import annotations

from array import array

import pyxc
from pyxc.abi.arch import x86

_PAGE = 4096
_WORDS = _PAGE // 8
_ABSENT = 2**64 - 1


def create(xen: pyxc.Xen, pages: int) -> pyxc.Domain:
    """A paused domain that owns `pages` frames, all of them in its p2m: a tree of one list of frame lists."""
    domain = xen.domains.create()
    domain.set_max_memory(4 * pages)
    frames = domain.memory.populate(range(pages))
    entries = array("Q", frames)
    leaves = -(-pages // _WORDS)
    # Its own last frames hold the list, as a kernel's p2m lies in the memory that it describes.
    tree = frames[-leaves - 2 :]
    root, branch, leaf = tree[0:1], tree[1:2], tree[2:]
    _write(domain, leaf, entries)
    _write(domain, branch, leaf)
    _write(domain, root, branch)
    _publish(domain, pages, root[0])
    return domain


def _write(domain: pyxc.Domain, frames: array[int], words: array[int]) -> None:
    """Fill frames with words, the rest with absent entries."""
    words = words + array("Q", [_ABSENT]) * (len(frames) * _WORDS - len(words))
    with domain.memory.map(frames, writable=True) as mapped, memoryview(mapped) as view:
        view[:] = words.tobytes()


def _publish(domain: pyxc.Domain, pages: int, root: int) -> None:
    """Write the location of the p2m to shared_info."""
    layout = x86.SHARED_INFO_STRUCT.at(domain.xen.interface)
    for name, value in (("arch.max_pfn", pages), ("arch.pfn_to_mfn_frame_list_list", root)):
        offset = layout.offsets[name]
        domain.memory.write(domain.info().shared_info_frame, value.to_bytes(8, "little"), offset)
