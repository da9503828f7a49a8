# SPDX-License-Identifier: MIT
"""The words of PAGE_DATA, each with a type and a pfn: split and joined many at a time."""

from __future__ import annotations

import sys
from array import array
from itertools import compress

from pyxc._core import take_tops
from pyxc.guest.stream.records import NO_DATA, ByteOrder, PageData

_INVALID = 0xFF
_PFN_BITS = 40
_KNOWN = bytes((0x0, 0x1, 0x2, 0x3, 0x4, 0x9, 0xA, 0xB, 0xC, *NO_DATA))
_TYPE_OF = bytes(top >> 4 if top >> 4 in _KNOWN and not top & 0xF else _INVALID for top in range(256))
"""The type for the highest byte of a word."""
_TOP_OF = bytes(kind << 4 if kind in _KNOWN else _INVALID for kind in range(256))
_HAS_DATA = bytes(kind in _KNOWN and kind not in NO_DATA for kind in range(256))


class Malformed(ValueError):
    """Malformed contents of a stream. The reader turns this into a DecodeError that names the place."""


def words(data: bytes | bytearray | memoryview, byteorder: ByteOrder) -> array[int]:
    """An array of u64 from the bytes of a stream."""
    found = array("Q")
    found.frombytes(data)
    if byteorder != sys.byteorder:
        found.byteswap()
    return found


def as_bytes(values: array[int], byteorder: ByteOrder) -> bytearray:
    """The reverse of words()."""
    if byteorder != sys.byteorder:
        values = values[:]
        values.byteswap()
    return bytearray(values.tobytes())


def split(data: bytes, byteorder: ByteOrder) -> PageData:
    """Split the words of PAGE_DATA. Malformed for a reserved type, or a pfn of more than 40 bits."""
    pfns = words(data, byteorder)
    tops, others = take_tops(pfns)
    types = tops.translate(_TYPE_OF)
    if _INVALID in types:
        index = types.index(_INVALID)
        raise Malformed(f"page {index} has the unknown type {tops[index]:#04x}")
    if others >> _PFN_BITS:
        raise _too_high(pfns)
    return PageData(pfns, types)


def join(pages: PageData, byteorder: ByteOrder) -> bytearray:
    """The words of PAGE_DATA. Malformed as for split(), or for columns of different length."""
    if len(pages.pfns) != len(pages.types):
        raise Malformed(f"{len(pages.pfns)} pfns have {len(pages.types)} types")
    unknown = pages.types.translate(None, _KNOWN)
    if unknown:
        raise Malformed(f"{unknown[0]:#x} is not a page type")
    raw = as_bytes(pages.pfns, byteorder)
    if any(any(raw[column::8]) for column in _columns(byteorder)):
        raise _too_high(pages.pfns)
    raw[_columns(byteorder)[0] :: 8] = pages.types.translate(_TOP_OF)
    return raw


def with_data(pages: PageData) -> PageData:
    """Only the pages with contents."""
    mask = pages.types.translate(_HAS_DATA)
    if all(mask):
        return pages
    return PageData(array("Q", compress(pages.pfns, mask)), pages.types.translate(None, NO_DATA))


def _columns(byteorder: ByteOrder) -> tuple[int, int, int]:
    """Where the three highest bytes of a word are, the highest first."""
    return (7, 6, 5) if byteorder == "little" else (0, 1, 2)


def _too_high(pfns: array[int]) -> Malformed:
    return Malformed(f"pfn {max(pfns):#x} has more than {_PFN_BITS} bits")
