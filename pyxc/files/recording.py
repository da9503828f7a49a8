# SPDX-License-Identifier: MIT
"""Recordings as files: `pyxc.open(record="FILE")` writes one, `pyxc.open("replay:FILE")` replays it.

A recording contains the calls to the hypervisor and xenstore and their results, including the contents of
mapped guest pages. So only its owner may read it. It is a sequence: the calls of several threads cannot be
replayed.
"""

from __future__ import annotations

import errno
import io
import os

from pyxc.abi.layout import Interface
from pyxc.files.provenance import XenOrigin
from pyxc.files.writer import PART, Keep, KeepName, ProvenanceFile
from pyxc.link import Link
from pyxc.link.record import BEGINNING, RecordLink

KIND = "recording"


class Recorder(RecordLink):
    """A link that records to a file, which is complete when the link is closed; see ProvenanceFile."""

    def __init__(
        self, inner: Link, path: str | os.PathLike[str], provenance: KeepName, replace: bool = False
    ) -> None:
        self._file = ProvenanceFile(
            path, KIND, keep=Keep(provenance), recognize=is_recording, replace=replace
        )
        super().__init__(inner, io.TextIOWrapper(self._file.stream, encoding="ascii", newline="\n"))

    def note(self, interface: Interface) -> None:
        """Record which hypervisor it is."""
        major, minor = interface.xen
        self._file.note(xen=XenOrigin(f"{major}.{minor}", domctl=interface.number("domctl") or None))

    def close(self) -> None:
        """Complete the file. OSError, after everything is closed, if a line could not be written."""
        super().close()
        if self.failure is None:
            self._file.complete()
            return
        self._file.close()
        number, reason = self.failure.errno or errno.EIO, self.failure.strerror
        self.failure = None
        raise OSError(number, f"the recording is incomplete: {reason}", self._file.path + PART)


def is_recording(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a recording."""
    return head.startswith(BEGINNING)
