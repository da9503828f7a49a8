# SPDX-License-Identifier: MIT
"""Dumps that the tools of Linux read (crash, drgn, makedumpfile, gdb), made from a guest or another dump."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.files.writer import ProvenanceFile
from pyxc.guest import vmcore_format, vmcoreinfo
from pyxc.guest.core_format import Progress
from pyxc.guest.pages_source import AT_ONCE, PagesSource, pieces, runs
from pyxc.guest.physical_tables import PhysicalTables

KIND = "vmcore"
_MOST_SEGMENTS = 4096
_MOST_HOLES, _HOLES_PER_PAGE = 1 << 20, 64
"""Pages of zeros that may fill the holes between segments."""


class Vmcore(NamedTuple):
    """What a dump has: pages, segments, vcpus, page tables that were rewritten, and the kernel's release.

    A compressed dump has no segments.

    `kernel` is None if the guest has no VMCOREINFO: then most tools need more help.
    """

    nr_pages: int
    nr_segments: int
    nr_vcpus: int
    nr_tables: int
    kernel: str | None


def check_convertible(source: PagesSource) -> None:
    if source.bits != 64:
        hint = "the page tables of 32-bit PV guests cannot be made physical"
        raise errors.Unsupported(errno.EOPNOTSUPP, "reading page tables", hint=hint)


def write(source: PagesSource, file: ProvenanceFile, text: bytes | None, progress: Progress | None) -> Vmcore:
    """Write the vmcore of a 64-bit guest."""
    text, tables = prepare(source, text)
    segments = _segments(source.gfns)
    file.stream.write(vmcore_format.begin(segments, vmcore_format.notes(source.contexts, text)))
    _write_pages(source, file, {segment.start for segment in segments}, tables, progress)
    return summary(source, len(segments), tables, text)


def prepare(source: PagesSource, text: bytes | None) -> tuple[bytes | None, PhysicalTables | None]:
    """The kernel's description of itself, and what rewrites the page tables of a PV guest."""
    text = vmcoreinfo.find_in(pieces(source)) if text is None else vmcoreinfo.check(text)
    if source.is_hvm:
        return text, None
    return text, PhysicalTables(source, text)


def summary(
    source: PagesSource, nr_segments: int, tables: PhysicalTables | None, text: bytes | None
) -> Vmcore:
    return Vmcore(
        len(source.gfns),
        nr_segments,
        len(source.contexts),
        len(tables.tables) if tables else 0,
        None if text is None else vmcoreinfo.release(text),
    )


def _write_pages(
    source: PagesSource,
    file: ProvenanceFile,
    starts: set[int],
    tables: PhysicalTables | None,
    progress: Progress | None,
) -> None:
    """All pages, and the holes in segments, which begin at `starts`."""
    done = at = 0
    for run in runs(source.gfns):
        if run.start not in starts:
            file.skip((run.start - at) * PAGE_SIZE)
        at = run.stop
        stop = done + len(run)
        while done < stop:
            if progress is not None:
                progress(done, len(source.gfns))
            count = min(AT_ONCE, stop - done)
            pages = source.pages(done, count)
            file.write_sparse(tables.rewritten(done, pages) if tables else pages)
            done += count
    if progress is not None:
        progress(done, done)


def _segments(gfns: array[int]) -> list[range]:
    """What has memory. Tools go through all segments for each page: of many, the nearest ones are joined."""
    hole = 0
    while sum(1 for _ in _joined(gfns, hole)) > _MOST_SEGMENTS:
        hole = 2 * hole or 1
    found = list(_joined(gfns, hole))
    check_near(gfns, sum(map(len, found)))
    return found


def check_near(gfns: array[int], numbers: int) -> None:
    """DecodeError for more frame numbers than a guest with so many pages can need."""
    if numbers > _MOST_HOLES + _HOLES_PER_PAGE * len(gfns):
        raise errors.DecodeError(f"the guest's {len(gfns)} pages are too far from each other")


def _joined(gfns: array[int], hole: int) -> Iterator[range]:
    joined = range(0)
    for run in runs(gfns):
        if joined and run.start - joined.stop <= hole:
            joined = range(joined.start, run.stop)
            continue
        if joined:
            yield joined
        joined = run
    if joined:
        yield joined
