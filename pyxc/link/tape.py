# SPDX-License-Identifier: MIT
"""The lines of a recording, in order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pyxc.errors import Error

FORMAT = 1
LINE_MOST = 1 << 26
"""The most characters in a line: about 45 MiB of incompressible data."""


class ReplayError(Error, AssertionError):
    """The program made a different call than the recorded one, or the recording is damaged."""


class Tape:
    """The recorded lines, in order. `header` is the first line. ValueError if it is not a recording.

    The descriptor of a device is readable while the next line is data from that device.
    """

    def __init__(self, lines: Iterable[str], target: str) -> None:
        self._lines = iter(lines)
        self._number = 0
        self._devices = 0
        self._descriptors: dict[int, int] = {}
        self._ahead: str | None = None
        try:
            self.header = self._header(target)
        except BaseException:
            self.close()
            raise

    def _header(self, target: str) -> dict[str, Any]:
        self._ahead = next(self._lines, None)
        try:
            header = self._take()
        except ReplayError as error:
            raise ValueError(f"{target} is not a recording") from error
        found = header.get("format")
        if found != FORMAT:
            raise ValueError(f"{target} is a recording of format {found!r}: expected {FORMAT}")
        return header

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The next line, which must be for this call, with its result."""
        if self._ahead is None:
            raise ReplayError(f"the recording has ended, but the program asks {asked}")
        line = self._take()
        recorded = {name: line.get(name) for name in asked}
        if recorded != asked:
            raise self.another(recorded, asked)
        return line

    def another(self, recorded: object, asked: object) -> ReplayError:
        """The error for a line that is for a different call."""
        return ReplayError(
            f"line {self._number} of the recording is for a different call: replay it with the same "
            f"program and the same version of pyxc\nrecorded: {recorded}\nasked:    {asked}"
        )

    def _take(self) -> dict[str, Any]:
        text, self._ahead = self._ahead, next(self._lines, None)
        self._number += 1
        self._signal()
        with self.understood():
            return _parsed(text)

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Recordings may be malicious: malformed data in the current line is a ReplayError."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ReplayError(f"line {self._number} of the recording is damaged") from error

    def open_device(self, kind: str, error: type[OSError] = OSError) -> int:
        """The number of an opened device, which its lines have; `error` if opening it failed."""
        self.check(self.answer({"open": kind}), error)
        descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._devices += 1
        self._descriptors[self._devices] = descriptor
        self._signal()
        return self._devices

    def check(self, line: dict[str, Any], error: type[OSError] = OSError) -> None:
        """Raise the error in a line, if any."""
        if "errno" in line:
            with self.understood():
                number = whole(line["errno"])
            raise error(number, line.get("error") or os.strerror(number))

    def fileno(self, device: int) -> int:
        """A descriptor to poll. ValueError after the device is closed."""
        if device not in self._descriptors:
            raise ValueError(f"device {device} of the recording is closed")
        return self._descriptors[device]

    def ready(self, device: int) -> bool:
        """Whether the next line is data from a device."""
        try:
            line = _parsed(self._ahead)
        except (ValueError, RecursionError):
            return False
        comes = "received" in line or "errno" in line or line.get("taken")
        return line.get("device") == device and bool(comes)

    def _signal(self) -> None:
        for device, descriptor in self._descriptors.items():
            with suppress(BlockingIOError):
                os.eventfd_read(descriptor)
            if self.ready(device):
                os.eventfd_write(descriptor, 1)

    def close_device(self, device: int) -> None:
        descriptor = self._descriptors.pop(device, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Close also the file of the lines."""
        for device in list(self._descriptors):
            self.close_device(device)
        self._ahead = None
        close_lines = getattr(self._lines, "close", None)
        if close_lines is not None:
            close_lines()


def whole(value: Any, bits: int = 32) -> int:
    """A result: an int, by default of 32 bits. ValueError for anything else."""
    if type(value) is not int or not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise ValueError(f"{value!r} is not a result")
    return value


def _parsed(text: str | None) -> dict[str, Any]:
    line = json.loads(text or "")
    if not isinstance(line, dict):
        raise ValueError("no object")
    return line
