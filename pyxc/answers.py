# SPDX-License-Identifier: MIT
"""Checks of what a hypervisor or a guest reports: each returns the value or raises DecodeError."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from pyxc.abi.page import MOST_FRAME
from pyxc.errors import DecodeError

MOST_CPUS = 1 << 14
"""The most physical cpus; Xen can be built for 16383."""
MOST_NODES = 1 << 10
"""The most NUMA nodes; Xen can be built for 64."""
E = TypeVar("E", bound=Enum)


def number(what: str, value: int, most: int, least: int = 0) -> int:
    """A number from `least` to `most`: nothing is allocated, and no bytes are taken, for more than that."""
    if not least <= value <= most:
        raise DecodeError(f"{what} is reported as {value}: expected {least} to {most}")
    return value


def frame(what: str, value: int) -> int:
    """The number of a frame."""
    return number(what, value, MOST_FRAME)


def member(kind: type[E], value: int) -> E:
    """What a number stands for."""
    try:
        return kind(value)
    except ValueError as error:
        raise DecodeError(str(error)) from error


def name(what: str, data: bytes) -> str:
    """Printable ASCII, not empty, up to the first NUL."""
    text = data.split(b"\0", 1)[0].decode("ascii", "replace")
    if not text or not text.isascii() or not text.isprintable():
        raise DecodeError(f"{what} is reported as {text!r}, which is not a name")
    return text
