# SPDX-License-Identifier: MIT
"""Metrics as a file, for node_exporter's textfile collector."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress

_MODE = 0o644
SUFFIX = ".prom"
"""What the collector reads; an unfinished file is called otherwise."""


def write_textfile(path: str | os.PathLike[str], text: str) -> None:
    """Replace a file at once: who reads it finds the old one or the new one, whole.

    Anybody may read it. ValueError for a name that the collector does not read; OSError.
    """
    name = os.fspath(path)
    if not name.endswith(SUFFIX):
        raise ValueError(f"{name!r}: the textfile collector reads files whose names end in {SUFFIX}")
    directory = os.path.dirname(name) or "."
    descriptor, part = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(name)}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), _MODE)
            file.write(text)
        os.replace(part, name)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
