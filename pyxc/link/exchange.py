# SPDX-License-Identifier: MIT
"""One hypercall on a structure, from plain bytes to plain bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial

from pyxc._core import Arena, Pool
from pyxc.link import Link

Placement = tuple[int, bytes | int]
"""The position of a handle in the structure, and its buffer: the contents, or a number of zero bytes."""

Exchange = Callable[..., tuple[int, bytes, Sequence[bytes]]]


def exchanger(link: Link) -> Exchange:
    """The function that exchanges bytes through a link: the device's own, for speed, or exchange()."""
    return partial(exchange, link) if link.direct is None else link.direct.exchange


def exchange(
    link: Link,
    op: int,
    request: bytes,
    buffers: tuple[Placement, ...] = (),
    before: int = -1,
    after: int = -1,
) -> tuple[int, bytes, Sequence[bytes]]:
    """Copy a structure and its buffers into one arena, call, and copy everything out.

    The hypercall's arguments are `before`, the structure's address and `after`; arguments of -1 are omitted.
    Returns the result (or -errno), the structure and the buffers. ValueError for a negative size.
    """

    def call(arena: Arena) -> int:
        return link.hypercall(op, *[value for value in (before, arena.address, after) if value >= 0])

    return _in_arena(link, request, buffers, call)


def exchange_by_value(
    link: Link, op: int, request: bytes, buffers: tuple[Placement, ...], before: int
) -> tuple[int, bytes, Sequence[bytes]]:
    """The same for a structure of u64 words that are themselves the hypercall's arguments."""

    def call(arena: Arena) -> int:
        words = (bytes(arena.view[at : at + 8]) for at in range(0, len(request), 8))
        numbers = [int.from_bytes(word, link.byteorder) for word in words]
        return link.hypercall(op, *([before] if before >= 0 else []), *numbers)

    return _in_arena(link, request, buffers, call)


def _in_arena(
    link: Link, request: bytes, buffers: tuple[Placement, ...], call: Callable[[Arena], int]
) -> tuple[int, bytes, Sequence[bytes]]:
    places = []
    total = _next(0, len(request))
    for _, content in buffers:
        size = content if isinstance(content, int) else len(content)
        if size < 0:
            raise ValueError(f"a buffer cannot have {size} bytes")
        places.append(slice(total, total + size))
        total = _next(total, size)
    arena = link.pool.take(total)
    try:
        view, base = arena.view, arena.address
        view[: len(request)] = request
        for (handle, content), place in zip(buffers, places):
            view[handle : handle + 8] = (base + place.start).to_bytes(8, link.byteorder)
            if not isinstance(content, int):
                view[place] = content
        result = call(arena)
        return result, bytes(view[: len(request)]), [bytes(view[place]) for place in places]
    finally:
        arena.release(total)


def exchange_buffers(
    pool: Pool, byteorder: str, buffers: Sequence[bytes], issue: Callable[[int, int], int]
) -> tuple[int, list[bytes]]:
    """The same for a call on a list of buffers: issue(count, address of the list of addresses and sizes)."""
    entry = struct.Struct("<QQ" if byteorder == "little" else ">QQ")
    places = []
    total = _next(0, entry.size * len(buffers))
    for content in buffers:
        places.append(slice(total, total + len(content)))
        total = _next(total, len(content))
    arena = pool.take(total)
    try:
        view, base = arena.view, arena.address
        for index, (place, content) in enumerate(zip(places, buffers)):
            entry.pack_into(view, index * entry.size, base + place.start, len(content))
            view[place] = content
        result = issue(len(buffers), base)
        return result, [bytes(view[place]) for place in places]
    finally:
        arena.release(total)


def _next(start: int, size: int) -> int:
    """The offset of the next item in the arena: items do not share cache lines."""
    return (start + size + 63) & ~63
