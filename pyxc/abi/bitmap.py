# SPDX-License-Identifier: MIT
"""Sets of cpus and of nodes in the form of xenctl_bitmap (public/xen.h).

The lowest members are in the lowest bits of the first byte, whatever the byte order.
"""

from __future__ import annotations

from collections.abc import Iterable

_WORD = 8


def room(count: int) -> int:
    """Bytes of a set that can hold `count` members, in whole u64."""
    return -(-count // (8 * _WORD)) * _WORD


def bits(members: Iterable[int]) -> int:
    """A set as one number."""
    return sum(1 << member for member in members)


def pack(members: Iterable[int], count: int) -> bytes:
    """A set as bytes, with space for `count` members."""
    return bits(members).to_bytes(room(count), "little")


def unpack(data: bytes) -> frozenset[int]:
    """The set in some bytes."""
    number = int.from_bytes(data, "little")
    return frozenset(member for member in range(number.bit_length()) if number >> member & 1)


def wanted(name: str, count: int) -> dict[str, int]:
    """The fields of a structure that ask for a set of at most `count` members."""
    return {f"{name}.bitmap": room(count), f"{name}.nr_bits": 8 * room(count)}


def given(name: str, members: Iterable[int], count: int) -> dict[str, int | bytes]:
    """The fields of a structure that give one."""
    return {f"{name}.bitmap": pack(members, count), f"{name}.nr_bits": 8 * room(count)}
