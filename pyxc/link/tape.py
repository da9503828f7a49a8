# SPDX-License-Identifier: MIT
"""The lines of a recording, in their order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pyxc.errors import Error

FORMAT = 1
LINE_MOST = 1 << 26
"""Characters in a line: some 45 MiB of what a hypervisor or a guest said, if it cannot be compressed."""


class ReplayError(Error, AssertionError):
    """The program asked something else than was recorded, or the recording is damaged."""


class Tape:
    """What was recorded, in turn. `header` is the first line. ValueError for what is not a recording.

    Descriptors of its devices are readable while the next line is something that comes from the device.
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
        """The next line, which must hold what is asked, with its answer."""
        if self._ahead is None:
            raise ReplayError(f"the recording has ended, but the program asks {asked}")
        line = self._take()
        recorded = {name: line.get(name) for name in asked}
        if recorded != asked:
            raise self.another(recorded, asked)
        return line

    def another(self, recorded: object, asked: object) -> ReplayError:
        """The error for a line that is not the answer to what is asked."""
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
        """Recordings come from strangers, too: nonsense in the current line is a ReplayError."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ReplayError(f"line {self._number} of the recording is damaged") from error

    def open_device(self, kind: str, error: type[OSError] = OSError) -> int:
        """The number of a device that was opened, which its lines have; `error` where that failed."""
        self.check(self.answer({"open": kind}), error)
        descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._devices += 1
        self._descriptors[self._devices] = descriptor
        self._signal()
        return self._devices

    def check(self, line: dict[str, Any], error: type[OSError] = OSError) -> None:
        """Raise the error that a line may tell of."""
        if "errno" in line:
            with self.understood():
                number = whole(line["errno"])
            raise error(number, line.get("error") or os.strerror(number))

    def fileno(self, device: int) -> int:
        """To be polled. ValueError once the device is closed."""
        if device not in self._descriptors:
            raise ValueError(f"device {device} of the recording is closed")
        return self._descriptors[device]

    def ready(self, device: int) -> bool:
        """Whether the next line is something that comes from a device."""
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
        """Also the file that the lines come from."""
        for device in list(self._descriptors):
            self.close_device(device)
        self._ahead = None
        close_lines = getattr(self._lines, "close", None)
        if close_lines is not None:
            close_lines()


def whole(value: Any, bits: int = 32) -> int:
    """A result as it travels, an int of 32 bits unless told. ValueError for anything else."""
    if type(value) is not int or not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise ValueError(f"{value!r} is not a result")
    return value


def _parsed(text: str | None) -> dict[str, Any]:
    line = json.loads(text or "")
    if not isinstance(line, dict):
        raise ValueError("no object")
    return line
