# SPDX-License-Identifier: MIT
"""Copies pages of a core dump to a file."""

from __future__ import annotations

import os
from bisect import bisect_left
from typing import NamedTuple

from pyxc import arguments, errors
from pyxc._core import PAGE_SIZE
from pyxc.abi.page import MOST_FRAME
from pyxc.files.writer import Keep, KeepName, ProvenanceFile
from pyxc.guest.core_file import CoreFile
from pyxc.guest.core_format import Progress
from pyxc.guest.pages_source import AT_ONCE, runs

KIND = "memory"
_MOST_PAGES = 1 << 28
"""The most pages of a file, 1 TiB, most of which may be zeros."""


class Extracted(NamedTuple):
    """Pages that were copied, and pages that the dump does not have."""

    nr_pages: int
    nr_missing: int


def extract(
    core: CoreFile,
    gfn: int,
    count: int,
    path: str | os.PathLike[str],
    *,
    replace: bool = False,
    progress: Progress | None = None,
    provenance: KeepName = "attributes",
) -> Extracted:
    """Copy `count` guest frames from `gfn` on to a file; pages that the dump does not have are zeros.

    The file gets its name when it is complete. It replaces another one written by extract(), with `replace`
    any regular file; otherwise FileExistsError. Zeros take no space on the disk. LookupError (NotMapped) if
    the dump has none of the pages.

    Example:

    >>> dump = build.dump_core("build.core")
    >>> with CoreFile("build.core") as core:
    ...     extract(core, 0x10, 4, "pages")
    Extracted(nr_pages=4, nr_missing=0)
    """
    arguments.natural("gfn", gfn, MOST_FRAME)
    arguments.natural("count", count, _MOST_PAGES, 1)
    first, stop = (bisect_left(core.gfns, number) for number in (gfn, gfn + count))
    if first == stop:
        raise errors.NotMapped(gfn * PAGE_SIZE, "the dump has none of these pages")
    at, done, total = gfn, 0, stop - first
    with ProvenanceFile(path, KIND, keep=Keep(provenance), replace=replace) as file, file.discarded_if_full():
        for run in runs(core.gfns[first:stop]):
            file.skip((run.start - at) * PAGE_SIZE)
            for start in range(0, len(run), AT_ONCE):
                if progress is not None:
                    progress(done, total)
                size = min(AT_ONCE, len(run) - start)
                file.write_sparse(core.pages(first + done, size))
                done += size
            at = run.stop
        file.skip((gfn + count - at) * PAGE_SIZE)
    return Extracted(total, count - total)
