# SPDX-License-Identifier: MIT
"""Core dumps of domains, in the format of xl's: what the debuggers of Xen and `crash` read."""

from __future__ import annotations

import errno
import os
import struct
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import compress, repeat
from typing import BinaryIO, NamedTuple

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.abi import domctl, version
from pyxc.domain.frames import list_frames
from pyxc.domain.identity import Identity
from pyxc.domain.info import DomainInfo
from pyxc.domain.mapping import Mapping
from pyxc.domain.p2m import ABSENT, read_p2m
from pyxc.domain.registers import VcpuContext
from pyxc.files.provenance import DomainOrigin, XenOrigin
from pyxc.files.writer import Keep, KeepName, ProvenanceFile
from pyxc.guest import core_format
from pyxc.guest.core_format import INVALID, Section
from pyxc.store.names import readable

KIND = "core"
_AT_ONCE = 256
_VERSION_PARTS = (
    (version.EXTRAVERSION, 16),
    (version.COMPILE_INFO, 144),
    (version.CAPABILITIES, 1024),
    (version.CHANGESET, 64),
)

Progress = Callable[[int, int], None]

Kept = KeepName
"""How a dump says where it comes from; see pyxc.files.writer."""


class CoreDump(NamedTuple):
    """What a core dump has: pages, those of them that could not be read and are left out, and vcpus."""

    nr_pages: int
    nr_missing: int
    nr_vcpus: int


class _Pages(NamedTuple):
    """Where the pages of a domain are, in order: as the guest counts them, and by the frames to map."""

    pfns: array[int]
    frames: array[int]


def dump_core(
    domain: Identity,
    path: str | os.PathLike[str],
    *,
    pause: bool,
    force: bool,
    progress: Progress | None,
    provenance: KeepName,
) -> CoreDump:
    """See Domain.dump_core()."""
    if domain.domid == domain.xen.own_domid:
        raise ValueError("a domain cannot dump itself")
    info = domain.info()
    name = domain.xen.names.domain_name(domain.domid, domain.uuid)
    with ProvenanceFile(path, KIND, keep=Keep(provenance)) as file:
        release = ".".join(map(str, domain.xen.interface.xen))
        file.note(
            domain=DomainOrigin(domain.domid, str(domain.uuid), readable(name)),
            xen=XenOrigin(release, domctl=domain.xen.interface.number("domctl") or None),
        )
        with _paused(domain, info) if pause else nullcontext():
            return _Writer(domain, info, force).write(file.stream, progress or _quietly)


@contextmanager
def _paused(domain: Identity, info: DomainInfo) -> Iterator[None]:
    """Pauses nest, but before Xen 4.5: then one that is paused anyway must not run afterwards."""
    if info.paused:
        yield
        return
    domain.change(domctl.PAUSEDOMAIN)
    try:
        yield
    finally:
        domain.change(domctl.UNPAUSEDOMAIN)


def _quietly(done: int, total: int) -> None:
    pass


class _Writer:
    """Of one thread."""

    def __init__(self, domain: Identity, info: DomainInfo, force: bool) -> None:
        self._domain = domain
        self._mapping = Mapping(domain)
        self._xen = domain.xen
        self._info = info
        self._order = "<" if domain.xen.interface.byteorder == "little" else ">"
        self._pages = self._hvm_pages(force) if info.is_hvm else self._pv_pages()
        self._contexts = self._read_contexts()
        self._shared_info = b"" if info.is_hvm else self._mapping.read(info.shared_info_frame)

    def _hvm_pages(self, force: bool) -> _Pages:
        gfns = array("Q", sorted(list_frames(self._mapping, force=force).frames))
        return _Pages(gfns, gfns)

    def _pv_pages(self) -> _Pages:
        entries = read_p2m(self._mapping).entries
        pfns = array("Q", [pfn for pfn, frame in enumerate(entries) if frame != ABSENT])
        return _Pages(pfns, array("Q", [entries[pfn] for pfn in pfns]))

    def _read_contexts(self) -> list[bytes]:
        """Of the vcpus that have one."""
        size = VcpuContext.size(64, self._xen.interface)
        found = []
        for index in range(self._info.nr_vcpus):
            try:
                reply = self._domain.call(domctl.GETVCPUCONTEXT, vcpu=index, ctxt=size)
            except errors.HypercallError as error:
                if error.errno not in (errno.ENODATA, errno.EINVAL, errno.ESRCH):
                    raise
                continue
            found.append(reply.buffers["ctxt"])
        return found

    def write(self, stream: BinaryIO, progress: Progress) -> CoreDump:
        sections = self._sections()
        pages = sections[-2]
        head = core_format.begin(self._order, self._xen.interface.arch, sections)
        head += self._notes() + b"".join(self._contexts) + self._shared_info
        stream.write(head + bytes(core_format.padding(len(head), pages)))
        written = self._write_pages(stream, progress)
        stream.write(self._frame_section(written))
        stream.write(core_format.names(sections))
        total = len(self._pages.pfns)
        return CoreDump(total, total - len(written.pfns), len(self._contexts))

    def _sections(self) -> list[Section]:
        total = len(self._pages.pfns)
        context = VcpuContext.size(64, self._xen.interface)
        shared = [Section(".xen_shared_info", PAGE_SIZE, 8, PAGE_SIZE)] if self._shared_info else []
        name, entry = (".xen_pfn", 8) if self._info.is_hvm else (".xen_p2m", 16)
        return [
            core_format.note_section(self._notes()),
            Section(".xen_prstatus", context * len(self._contexts), 8, context),
            *shared,
            Section(".xen_pages", PAGE_SIZE * total, PAGE_SIZE, PAGE_SIZE),
            Section(name, entry * total, 8, entry),
        ]

    def _notes(self) -> bytes:
        magic = core_format.MAGIC_HVM if self._info.is_hvm else core_format.MAGIC_PV
        header = (magic, len(self._contexts), len(self._pages.pfns), PAGE_SIZE)
        return b"".join(
            [
                core_format.note(self._order, core_format.NONE),
                core_format.note(self._order, core_format.HEADER, struct.pack(f"{self._order}4Q", *header)),
                core_format.note(self._order, core_format.XEN_VERSION, self._version()),
                core_format.note(
                    self._order,
                    core_format.FORMAT_VERSION,
                    struct.pack(f"{self._order}Q", core_format.VERSION),
                ),
            ]
        )

    def _version(self) -> bytes:
        """What Xen says of itself, as it says it."""
        words = struct.Struct(f"{self._order}2Q")
        told = [self._xen.call(part).answer[:size].ljust(size, b"\0") for part, size in _VERSION_PARTS]
        return (
            words.pack(*self._xen.interface.xen)
            + b"".join(told)
            + words.pack(self._xen.virt_start, PAGE_SIZE)
        )

    def _write_pages(self, stream: BinaryIO, progress: Progress) -> _Pages:
        """All pages that can be mapped, and as many empty ones at the end as cannot."""
        written = _Pages(array("Q"), array("Q"))
        total = len(self._pages.pfns)
        for start in range(0, total, _AT_ONCE):
            progress(start, total)
            window = _Pages(*(column[start : start + _AT_ONCE] for column in self._pages))
            done = self._write_window(stream, window)
            written.pfns.extend(done.pfns)
            written.frames.extend(done.frames)
        stream.writelines(repeat(bytes(PAGE_SIZE), total - len(written.pfns)))
        progress(total, total)
        return written

    def _write_window(self, stream: BinaryIO, pages: _Pages) -> _Pages:
        """Those of a few pages that can be mapped: all, as a rule. Answers which."""
        while pages.frames:
            with self._xen.link.map_frames(self._domain.domid, pages.frames) as mapped:
                refused = mapped.errors
                if not any(refused):
                    stream.write(mapped)
                    break
            mapped_ones = [number == 0 for number in refused]
            pages = _Pages(*(array("Q", compress(column, mapped_ones)) for column in pages))
        return pages

    def _frame_section(self, written: _Pages) -> bytes:
        """The frame of each page; pfn and machine frame of a PV domain."""
        none = array("Q", [INVALID]) * (len(self._pages.pfns) - len(written.pfns))
        columns = [written.pfns + none] if self._info.is_hvm else [written.pfns + none, written.frames + none]
        words = array("Q", bytes(8 * len(columns) * len(self._pages.pfns)))
        for index, column in enumerate(columns):
            words[index :: len(columns)] = column
        return self._xen.words(words.tobytes()).tobytes()
