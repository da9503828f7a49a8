# SPDX-License-Identifier: MIT
"""Checks of what a hypervisor or a guest tells: each gives the value back or raises DecodeError."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from pyxc.errors import DecodeError

MOST_CPUS = 1 << 14
"""Physical cpus; Xen can be built for 16383."""
MOST_NODES = 1 << 10
"""NUMA nodes; Xen can be built for 64."""
MOST_FRAME = 2**52 - 1
"""The number of a frame of 4096 bytes."""

E = TypeVar("E", bound=Enum)


def number(what: str, value: int, most: int, least: int = 0) -> int:
    """A number from `least` to `most`: room is made, and bytes are taken, for no more than makes sense."""
    if not least <= value <= most:
        raise DecodeError(f"{what} is told as {value}: from {least} to {most} makes sense")
    return value


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
        raise DecodeError(f"{what} is told as {text!r}, which is no name")
    return text
