# SPDX-License-Identifier: MIT
"""From a dump in Xen's format to one that the tools of Linux read."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, NamedTuple

from pyxc.files import provenance as files
from pyxc.files.writer import Keep, KeepName, ProvenanceFile, Recognize
from pyxc.guest import kdump, kdump_format, vmcore, vmcore_format
from pyxc.guest.core_file import CoreFile
from pyxc.guest.core_format import Progress
from pyxc.guest.pages_source import PagesSource
from pyxc.guest.vmcore import Vmcore, check_convertible

Format = Literal["vmcore", "kdump"]


class Writer(NamedTuple):
    """One format: the kind of its files, how they are recognized, and how a guest's pages are written."""

    kind: str
    recognize: Recognize
    write: Callable[[PagesSource, ProvenanceFile, bytes | None, Progress | None], Vmcore]


_WRITERS = {
    "vmcore": Writer(vmcore.KIND, vmcore_format.is_vmcore, vmcore.write),
    "kdump": Writer(kdump.KIND, kdump_format.is_kdump, kdump.write),
}
FORMATS = tuple(_WRITERS)


def chosen(format: str) -> Writer:
    if format not in _WRITERS:
        raise ValueError(f"format is {format!r}: expected one of {', '.join(FORMATS)}")
    return _WRITERS[format]


def convert(
    core: CoreFile,
    path: str | os.PathLike[str],
    *,
    format: Format = "vmcore",
    vmcoreinfo: bytes | None = None,
    replace: bool = False,
    progress: Progress | None = None,
    provenance: KeepName = "attributes",
) -> Vmcore:
    """Write a dump in Xen's format as a vmcore or, with `format` "kdump", as a compressed dump of Linux.

    Its pages are at guest-physical addresses: pfns of a PV guest, whose page tables are rewritten
    accordingly, as far as the vcpus and the kernel use them. `vmcoreinfo` is the kernel's description of
    itself, which is searched for if it is None. Pages of zeros take no space on the disk. The file gets its
    name when it is complete. It replaces another one of pyxc in this format, with `replace` any regular file;
    otherwise FileExistsError. Unsupported for a 32-bit PV guest.

    Example:

    >>> dump = build.dump_core("build.core")
    >>> with CoreFile("build.core") as core:
    ...     convert(core, "build.vmcore")
    Vmcore(nr_pages=8192, nr_segments=1, nr_vcpus=1, nr_tables=4, kernel=None)
    """
    kind, recognize, write = chosen(format)
    check_convertible(core)
    keep = Keep(provenance)
    with (
        ProvenanceFile(path, kind, keep=keep, recognize=recognize, replace=replace) as file,
        file.discarded_if_full(),
    ):
        origin = files.read(core.path).origin
        if origin is not None:
            file.note(domain=origin.domain, xen=origin.xen)
        return write(core, file, vmcoreinfo, progress)
