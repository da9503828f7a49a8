# SPDX-License-Identifier: MIT
"""Recordings as files: `pyxc.open(record="FILE")` writes one, `pyxc.open("replay:FILE")` plays it back.

A recording holds what the hypervisor and xenstore were asked and what they said: also contents of guests'
pages that were mapped. So only its owner may read it. It is a sequence: of a program in which several threads
ask it cannot be played back.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

from pyxc.abi.layout import Interface
from pyxc.files.provenance import XenOrigin
from pyxc.files.writer import Keep, KeepName, ProvenanceFile
from pyxc.link import Link
from pyxc.link.record import RecordLink
from pyxc.link.replay import ReplayLink

KIND = "recording"


class Recorder(RecordLink):
    """A link that records into a file, which is complete when the link is closed; see ProvenanceFile."""

    def __init__(self, inner: Link, path: str | os.PathLike[str], provenance: KeepName) -> None:
        self._file = ProvenanceFile(path, KIND, keep=Keep(provenance))
        super().__init__(inner, io.TextIOWrapper(self._file.stream, encoding="ascii", newline="\n"))

    def note(self, interface: Interface) -> None:
        """Which hypervisor it is."""
        major, minor = interface.xen
        self._file.note(xen=XenOrigin(f"{major}.{minor}", domctl=interface.number("domctl") or None))

    def close(self) -> None:
        super().close()
        self._file.complete()


def replayed(path: str, target: str) -> ReplayLink:
    """The link to a recorded hypervisor. ValueError for a file that is not a recording; OSError."""
    return ReplayLink(_lines(path), target)


def _lines(path: str) -> Iterator[str]:
    with open(path, encoding="ascii", errors="replace") as file:
        yield from file
