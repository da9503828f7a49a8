# SPDX-License-Identifier: MIT
"""Core dumps of domains, in the format of xl's: what the debuggers of Xen and `crash` read."""

from __future__ import annotations

import errno
import os
import struct
from array import array
from contextlib import nullcontext
from itertools import compress
from typing import BinaryIO, Literal, NamedTuple

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.abi import domctl, version
from pyxc.domain import bounds
from pyxc.domain.frames import list_frames
from pyxc.domain.identity import Identity
from pyxc.domain.info import DomainInfo
from pyxc.domain.mapping import Mapping
from pyxc.domain.p2m import Pages, read_pages
from pyxc.domain.pausing import paused
from pyxc.domain.registers import VcpuContext
from pyxc.files.provenance import DomainOrigin, XenOrigin
from pyxc.files.writer import Keep, KeepName, ProvenanceFile
from pyxc.guest import core_format
from pyxc.guest.core_convert import FORMATS, chosen
from pyxc.guest.core_format import INVALID, Progress, Section
from pyxc.guest.live_pages import LivePages
from pyxc.store.names import readable

KIND = "core"
XEN = "xen"
Form = Literal["xen", "vmcore", "kdump"]
"""The format of xl's dumps, and those of Linux's own ones."""
_AT_ONCE = 256
_FRAMES_AT_ONCE = 1 << 14
_VERSION_PARTS = (
    (version.EXTRAVERSION, 16),
    (version.COMPILE_INFO, 144),
    (version.CAPABILITIES, 1024),
    (version.CHANGESET, 64),
)

Kept = KeepName
"""How a dump says where it comes from; see pyxc.files.writer."""


class CoreDump(NamedTuple):
    """What a core dump has: pages, those of them that could not be read, and vcpus.

    `kernel` is the release of the kernel in a vmcore, None if the guest does not say it.
    """

    nr_pages: int
    nr_missing: int
    nr_vcpus: int
    kernel: str | None = None


def dump_core(
    domain: Identity,
    path: str | os.PathLike[str],
    *,
    pause: bool,
    force: bool,
    replace: bool,
    progress: Progress | None,
    provenance: KeepName,
    form: Form = "xen",
    vmcoreinfo: bytes | None = None,
    everywhere: bool | None = None,
) -> CoreDump:
    """See Domain.dump_core(), and list_frames() for `everywhere`."""
    if form not in (XEN, *FORMATS):
        raise ValueError(f"format is {form!r}: expected one of {', '.join((XEN, *FORMATS))}")
    info = _another(domain)
    name = domain.xen.names.domain_name(domain.domid, domain.uuid)
    if pause and not info.paused:
        domain.xen.check_writable("pausing a domain")
    keep = Keep(provenance)
    kind, recognize = (KIND, core_format.is_core) if form == XEN else chosen(form)[:2]
    with ProvenanceFile(path, kind, keep=keep, recognize=recognize, replace=replace) as file:
        release = ".".join(map(str, domain.xen.interface.xen))
        file.note(
            domain=DomainOrigin(domain.domid, str(domain.uuid), readable(name)),
            xen=XenOrigin(release, domctl=domain.xen.interface.number("domctl") or None),
        )
        file.check_space(info.tot_pages * PAGE_SIZE)
        with file.discarded_if_full():
            with paused(domain) if pause else nullcontext():
                writer = _Writer(domain, info, force, everywhere)
                if form == XEN:
                    dump = writer.write(file.stream, progress or _quietly)
                else:
                    dump = _write_for_linux(writer.live(), file, form, vmcoreinfo, progress)
            domain.look()  # a dump is complete only if all of it is of one domain
            file.complete()
    return dump


def _write_for_linux(
    live: LivePages, file: ProvenanceFile, form: str, text: bytes | None, progress: Progress | None
) -> CoreDump:
    made = chosen(form).write(live, file, text, progress)
    return CoreDump(made.nr_pages, len(live.missing), made.nr_vcpus, made.kernel)


def write_core(
    domain: Identity, stream: BinaryIO, force: bool = False, everywhere: bool | None = None
) -> CoreDump:
    """Write a dump of a domain, as it is, into whatever is open: a pipe, too, for nothing is sought in it."""
    dump = _Writer(domain, _another(domain), force, everywhere).write(stream, _quietly)
    domain.look()  # a dump is right only if all of it is of one domain
    return dump


def _another(domain: Identity) -> DomainInfo:
    """What it is, if it can be dumped. ValueError for the domain that asks."""
    if domain.domid == domain.xen.own_domid:
        raise ValueError("a domain cannot dump itself")
    return domain.info()


def _quietly(done: int, total: int) -> None:
    pass


class _Writer:
    """Threads: one at a time."""

    def __init__(
        self, domain: Identity, info: DomainInfo, force: bool, everywhere: bool | None = None
    ) -> None:
        self.domain = domain
        self._mapping = Mapping(domain)
        self._xen = domain.xen
        self.info = info
        self._order = "<" if domain.xen.interface.byteorder == "little" else ">"
        self._mapping.refuse_to_populate()
        if info.is_hvm:
            gfns = list_frames(self._mapping, force=force, everywhere=everywhere).frames
            self.pages = [Pages(gfns, gfns)]
        else:
            self.pages = read_pages(self._mapping, info)
        self._total = sum(len(pages.pfns) for pages in self.pages)
        bounds.check_listed("the memory", self._total, info)
        self.contexts = self._read_contexts()
        self._shared_info = b"" if info.is_hvm else self._mapping.read(info.shared_info_frame)

    def _read_contexts(self) -> list[bytes]:
        """Of the vcpus that have one."""
        size = VcpuContext.size(64, self._xen.interface)
        found = []
        for index in range(self.info.nr_vcpus):
            try:
                reply = self.domain.call(domctl.GETVCPUCONTEXT, vcpu=index, ctxt=size)
            except errors.HypercallError as error:
                if error.errno not in (errno.ENODATA, errno.EINVAL, errno.ESRCH):
                    raise
                continue
            found.append(reply.buffers["ctxt"])
        return found

    def live(self) -> LivePages:
        """The same pages, for a vmcore."""
        contexts = [VcpuContext.decode(one, 64, self._xen.interface) for one in self.contexts]
        return LivePages(self.domain, self.info.is_hvm, self.pages, contexts)

    def write(self, stream: BinaryIO, progress: Progress) -> CoreDump:
        sections = self._sections()
        pages = sections[-2]
        head = core_format.begin(self._order, self._xen.interface.arch, sections)
        head += self._notes() + b"".join(self.contexts) + self._shared_info
        stream.write(head + bytes(core_format.padding(len(head), pages)))
        missing = self._write_pages(stream, progress)
        self._write_frames(stream, missing)
        stream.write(core_format.names(sections))
        return CoreDump(self._total, missing, len(self.contexts))

    def _sections(self) -> list[Section]:
        total = self._total
        context = VcpuContext.size(64, self._xen.interface)
        shared = [Section(".xen_shared_info", PAGE_SIZE, 8, PAGE_SIZE)] if self._shared_info else []
        name, entry = (".xen_pfn", 8) if self.info.is_hvm else (".xen_p2m", 16)
        return [
            core_format.note_section(self._notes()),
            Section(".xen_prstatus", context * len(self.contexts), 8, context),
            *shared,
            Section(".xen_pages", PAGE_SIZE * total, PAGE_SIZE, PAGE_SIZE),
            Section(name, entry * total, 8, entry),
        ]

    def _notes(self) -> bytes:
        magic = core_format.MAGIC_HVM if self.info.is_hvm else core_format.MAGIC_PV
        header = (magic, len(self.contexts), self._total, PAGE_SIZE)
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

    def _write_pages(self, stream: BinaryIO, progress: Progress) -> int:
        """All pages that can be mapped, and as many empty ones at the end as cannot: returns how many.

        What could not be mapped is marked in the list of pages.
        """
        done = missing = 0
        for pfns, frames in self.pages:
            for start in range(0, len(frames), _AT_ONCE):
                progress(done, self._total)
                refused = self._write_window(stream, frames[start : start + _AT_ONCE])
                for index in refused:
                    pfns[start + index] = INVALID
                missing += len(refused)
                done += min(_AT_ONCE, len(frames) - start)
        for start in range(0, missing, _AT_ONCE):
            stream.write(bytes(PAGE_SIZE * min(_AT_ONCE, missing - start)))
        progress(self._total, self._total)
        return missing

    def _write_window(self, stream: BinaryIO, frames: array[int]) -> list[int]:
        """Those of a few pages that can be mapped: all, as a rule. Returns the places of the others.

        Whose pages they are is asked while they are mapped: no other domain can get them before that ends.
        """
        places = list(range(len(frames)))
        while places:
            wanted = array("Q", [frames[place] for place in places])
            with self._xen.link.map_frames(self.domain.domid, wanted) as mapped:
                self.domain.look()
                refused = mapped.errors
                if not any(refused):
                    stream.write(mapped)
                    break
            places = [place for place, number in zip(places, refused) if not number]
        return sorted(set(range(len(frames))).difference(places))

    def _write_frames(self, stream: BinaryIO, missing: int) -> None:
        """The frame of each page; pfn and machine frame of a PV domain."""
        columns = 1 if self.info.is_hvm else 2
        for pages in self.pages:
            for start in range(0, len(pages.pfns), _FRAMES_AT_ONCE):
                window = slice(start, start + _FRAMES_AT_ONCE)
                there = [pfn != INVALID for pfn in pages.pfns[window]]
                words = array("Q", bytes(8 * columns * sum(there)))
                for index, column in enumerate(pages[:columns]):
                    words[index::columns] = array("Q", compress(column[window], there))
                self._write_words(stream, words)
        for start in range(0, columns * missing, _FRAMES_AT_ONCE):
            none = min(_FRAMES_AT_ONCE, columns * missing - start)
            self._write_words(stream, array("Q", (INVALID,)) * none)

    def _write_words(self, stream: BinaryIO, words: array[int]) -> None:
        if self._xen.swapped:
            words.byteswap()
        stream.write(words)
