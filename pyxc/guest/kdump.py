# SPDX-License-Identifier: MIT
"""Compressed dumps that crash, drgn and makedumpfile read, made from a guest or another dump."""

from __future__ import annotations

import os
import tempfile
import zlib
from array import array
from collections.abc import Iterator
from typing import BinaryIO

from pyxc._core import PAGE_SIZE
from pyxc.files.writer import ProvenanceFile
from pyxc.guest import kdump_format, vmcore, vmcore_format, vmcoreinfo
from pyxc.guest.core_format import Progress
from pyxc.guest.pages_source import AT_ONCE, PagesSource
from pyxc.guest.physical_tables import PhysicalTables
from pyxc.guest.vmcore import Vmcore

KIND = "kdump"
_LEVEL = 1
_COPY_BYTES = 1 << 20
_ZERO_PAGE = bytes(PAGE_SIZE)
_ZEROS = zlib.compress(_ZERO_PAGE, _LEVEL)


def write(source: PagesSource, file: ProvenanceFile, text: bytes | None, progress: Progress | None) -> Vmcore:
    """Write the compressed dump of a 64-bit guest.

    The descriptors of pages have their compressed sizes, and come first: until all are known, the compressed
    pages are in a temporary file without a name, in the same directory. All pages of zeros are one.
    """
    text, tables = vmcore.prepare(source, text)
    vmcore.check_near(source.gfns, source.gfns[-1] + 1 if source.gfns else 0)
    notes = vmcore_format.notes(source.contexts, text)
    release = "" if text is None else vmcoreinfo.release(text)
    base = 0 if text is None else vmcoreinfo.number(text, "phys_base") or 0
    head = kdump_format.begin(source.gfns, len(source.contexts), notes, text or b"", release, base)
    with tempfile.TemporaryFile(dir=os.path.dirname(file.path) or ".") as spool:
        sizes = array("I", _compress(source, tables, spool, progress))
        file.stream.write(head)
        file.stream.writelines(_descriptors(sizes, len(head)))
        spool.seek(0)
        while piece := spool.read(_COPY_BYTES):
            file.stream.write(piece)
    return vmcore.summary(source, 0, tables, text)


def _compress(
    source: PagesSource, tables: PhysicalTables | None, spool: BinaryIO, progress: Progress | None
) -> Iterator[int]:
    """Write a page of zeros and all other pages, and yield the compressed sizes of all, 0 for zeros."""
    total = len(source.gfns)
    spool.write(_ZEROS)
    for first in range(0, total, AT_ONCE):
        if progress is not None:
            progress(first, total)
        pages = source.pages(first, min(AT_ONCE, total - first))
        if tables is not None:
            pages = tables.rewritten(first, pages)
        for start in range(0, len(pages), PAGE_SIZE):
            page = pages[start : start + PAGE_SIZE]
            if page == _ZERO_PAGE:
                yield 0
                continue
            small = zlib.compress(page, _LEVEL)
            content = small if len(small) < PAGE_SIZE else page
            spool.write(content)
            yield len(content)
    if progress is not None:
        progress(total, total)


def _descriptors(sizes: array[int], at: int) -> Iterator[bytes]:
    """Of each page; they begin at a place in the file, and the contents follow them."""
    zeros = at + kdump_format.DESCRIPTOR.size * len(sizes)
    end = zeros + len(_ZEROS)
    for size in sizes:
        place, length = (end, size) if size else (zeros, len(_ZEROS))
        end += size
        yield kdump_format.DESCRIPTOR.pack(place, length, kdump_format.ZLIB if length < PAGE_SIZE else 0, 0)
