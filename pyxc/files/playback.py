# SPDX-License-Identifier: MIT
"""Replayed recordings: `pyxc.open("replay:FILE")`; see pyxc.files.recording."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from pyxc.files.opened import open_checked
from pyxc.link.replay import ReplayError, ReplayLink
from pyxc.link.tape import LINE_MOST


def replayed(path: str, target: str) -> ReplayLink:
    """The link to a recorded hypervisor. ValueError for a file that is not a recording; OSError."""
    return ReplayLink(_lines(path), target)


def _lines(path: str) -> Iterator[str]:
    """The lines of a regular file: another one might never end. ValueError for an invalid line."""

    def check(mode: int) -> None:
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is not a regular file")

    with open(open_checked(path, check), encoding="ascii", errors="replace") as file:
        while line := file.readline(LINE_MOST + 1):
            if len(line) > LINE_MOST:
                raise ReplayError(f"{path} has a line of more than {LINE_MOST} characters")
            yield line
