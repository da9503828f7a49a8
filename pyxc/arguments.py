# SPDX-License-Identifier: MIT
"""Checks of arguments, before any hypercall: each gives the value back or raises ValueError or TypeError."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, SupportsIndex

from pyxc.abi.domid import DOMID_FIRST_RESERVED, DOMID_SELF
from pyxc.abi.page import MOST_FRAME

if TYPE_CHECKING:  # the module is imported where it is needed: it takes long
    import uuid
    from enum import IntEnum


def natural(name: str, value: SupportsIndex, most: int, least: int = 0) -> int:
    """A whole number from `least` to `most`."""
    number = operator.index(value)
    if not least <= number <= most:
        raise ValueError(f"{name} is {number}: it must be from {least} to {most}")
    return number


def member(name: str, kind: type[IntEnum], value: SupportsIndex | str, most: int = 2**32 - 1) -> int:
    """The number of a member of an enum: a member, its name in any case, or any number up to `most`."""
    if not isinstance(value, str):
        return natural(name, value, most)
    try:
        return kind[value.upper()]
    except KeyError:
        names = ", ".join(known.name.lower() for known in kind)
        raise ValueError(f"{name} {value!r} is unknown: expected one of {names}") from None


def frame(name: str, value: SupportsIndex) -> int:
    """The number of a frame."""
    return natural(name, value, MOST_FRAME)


def frames(name: str, first: SupportsIndex, count: SupportsIndex) -> int:
    """How many frames there are from a first one on: at least one, and none beyond the highest."""
    return natural(name, count, MOST_FRAME - frame("first frame", first) + 1, 1)


def domid(value: SupportsIndex) -> int:
    """The id of an ordinary domain."""
    return natural("domid", value, DOMID_FIRST_RESERVED - 1)


def domid_or_self(value: SupportsIndex) -> int:
    number = operator.index(value)
    return number if number == DOMID_SELF else domid(number)


def handle(value: uuid.UUID | str | bytes) -> uuid.UUID:
    """A domain's handle: a UUID, its text, or its 16 bytes."""
    import uuid

    if isinstance(value, bytes):
        if len(value) != 16:
            raise ValueError(f"a UUID has 16 bytes, not {len(value)}")
        return uuid.UUID(bytes=value)
    if isinstance(value, str):
        found = uuid_or_none(value)
        if found is None:
            raise ValueError(f"{value!r} is not a UUID")
        return found
    if not isinstance(value, uuid.UUID):
        raise TypeError(f"expected a UUID, not {type(value).__name__}")
    return value


def handle_or_new(value: uuid.UUID | str | bytes | None) -> uuid.UUID:
    """The same; a random one for None."""
    import uuid

    return uuid.uuid4() if value is None else handle(value)


def uuid_or_none(text: str) -> uuid.UUID | None:
    """The UUID of a string in full form (36 characters), None for another string."""
    if len(text) != 36:
        return None
    import uuid

    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def nodes(values: Iterable[SupportsIndex], count: int) -> frozenset[int]:
    """A set, not empty, of nodes of a host that may have `count`."""
    found = frozenset(natural("node", value, count - 1) for value in values)
    if not found:
        raise ValueError("no NUMA node is given")
    return found


def cpus(name: str, values: Iterable[SupportsIndex], count: int) -> frozenset[int]:
    """A set of cpus of a host that has `count`."""
    return frozenset(natural(f"cpu in {name}", value, count - 1) for value in values)
