# SPDX-License-Identifier: MIT
"""Values on the command line, in the syntax of xl."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from enum import IntEnum

import pyxc
from pyxc.cli.status import UsageError

_SIZE = r"([0-9]+)([bkmgt]?)"
_SECONDS_MOST = 10**6
_RATE_LEAST = 4 << 10
_MEMORY_MOST_KB = 1 << 54
"""Xen counts pages in 52 bits."""
_SHIFTS = {"b": 0, "k": 10, "m": 20, "": 20, "g": 30, "t": 40}


def memory_kb(text: str) -> int:
    """KiB of a size: MiB unless b, k, m, g or t follows."""
    match = re.fullmatch(_SIZE, text.lower())
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: expected a number and optionally b, k, m, g or t"
        )
    kb = int(match[1]) << _SHIFTS[match[2]] >> 10
    if kb > _MEMORY_MOST_KB:
        raise argparse.ArgumentTypeError(f"{text!r} is more memory than any host has")
    return kb


def bytes_per_s(text: str) -> int:
    """MiB a second unless b, k, m, g or t follows; at least what Domain.save() takes."""
    rate = memory_kb(text) << 10
    if rate < _RATE_LEAST:
        raise argparse.ArgumentTypeError(
            f"{text!r} is too slow: expected at least 4k, which is 4 KiB a second"
        )
    return rate


def number(text: str) -> int:
    """A whole number, not negative."""
    if not (text.isascii() and text.isdigit()):
        negative = text.startswith("-") and text[1:].isdigit()
        raise argparse.ArgumentTypeError(f"{text!r} {'is negative' if negative else 'is not a number'}")
    return int(text)


def seconds(text: str) -> float:
    """A time in seconds, above 0, that a sleep can take."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= _SECONDS_MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds")
    return value


def frame_range(text: str) -> tuple[int, int]:
    """First and count of "5", "0x10-0x1f" or "0x10+16". UsageError."""
    number = r"(0x[0-9a-fA-F]{1,16}|\d{1,20})"
    found = re.fullmatch(rf"{number}(?:([+-]){number})?", text, re.ASCII)
    if found is None:
        raise UsageError(f"GFN: {text!r} is not a frame, as 5, 0x10-0x1f or 0x10+16")
    first, end = int(found[1], 0), int(found[3] or "1", 0)
    count = end - first + 1 if found[2] == "-" else end
    if count < 1:
        raise UsageError(f"GFN: {text} has no frames")
    return first, count


def cpu_list(cpus: Iterable[int] | None, count: int) -> list[int] | None:
    """A set of cpus for JSON, on a host of `count`; None for an unknown set."""
    return None if cpus is None else sorted(cpu for cpu in cpus if cpu < count)


def cpu_text(cpus: Iterable[int] | None, count: int) -> str:
    """A set of cpus as xl prints it on a host of `count`: "all", "none", "0-2,5"; "-" for an unknown set."""
    if cpus is None:
        return "-"
    wanted = {cpu for cpu in cpus if cpu < count}
    if len(wanted) == count:
        return "all"
    starts = sorted(cpu for cpu in wanted if cpu - 1 not in wanted)
    ends = sorted(cpu for cpu in wanted if cpu + 1 not in wanted)
    spans = [f"{start}-{end}" if end > start else str(start) for start, end in zip(starts, ends)]
    return ",".join(spans) or "none"


def scheduler_name(scheduler: pyxc.Scheduler | int) -> str:
    """A scheduler as xl prints it, "scheduler 42" where pyxc has no name for it."""
    return scheduler.name.lower() if isinstance(scheduler, IntEnum) else f"scheduler {scheduler}"


def hypfs_value(kind: pyxc.HypfsType, text: str) -> str | int | bytes:
    """The value of a word on the command line for an entry of some type. UsageError if it is invalid."""
    if kind in (pyxc.HypfsType.UINT, pyxc.HypfsType.INT, pyxc.HypfsType.BOOL):
        try:
            number = int(text, 0)
        except ValueError as error:
            raise UsageError(f"{text!r} is not a number") from error
        return bool(number) if kind is pyxc.HypfsType.BOOL else number
    return text.encode() if kind is pyxc.HypfsType.BLOB else text
