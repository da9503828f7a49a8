# SPDX-License-Identifier: MIT
"""Core dumps, read: what they have, and what a damaged or hostile one ends in."""

from __future__ import annotations

import os
import re
import struct
from array import array
from pathlib import Path

import pytest
from cores import PAGE, context, core
from hosts import Host

from pyxc import DecodeError, NotMapped
from pyxc.files import provenance
from pyxc.guest import core_format
from pyxc.guest.core_file import CoreFile
from pyxc.guest.core_format import Section
from pyxc.guest.core_pages import extract
from pyxc.guest.pages_source import runs

PAGES = {0: b"first", 1: b"second", 5: b"sixth", 0x100: b"last"}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.fixture
def pvh(tmp_path: Path) -> Path:
    contexts = [context(rip=0x1234, cr3=0x5000), context(rip=0x5678)]
    return write(tmp_path / "pvh.core", core(PAGES, contexts, missing=2))


def test_a_dump_that_was_written_here(host: Host, tmp_path: Path) -> None:
    made = host.xen.domains.create(hvm=True, hap=True)
    made.set_max_memory(1024)
    made.memory.populate([*range(32), 0xFE000])
    made.memory.write(0xFE000, b"here")
    path = tmp_path / "core"
    for domain in (host.xen.domains["build"], made):
        domain.dump_core(path, provenance="none")
        with CoreFile(path) as found:
            assert (found.is_hvm, found.bits, found.nr_missing) == (domain.info().is_hvm, 64, 0)
            assert found.xen is not None and found.xen.release == f"4.17{host.xen.version.extra}"
            assert found.xen.capabilities == tuple(host.xen.capabilities)
            assert all(dict(one) == dict(domain.vcpu(0).context()) for one in found.contexts)
            with domain.memory.physical as physical:
                for gfn in (found.gfns[0], found.gfns[-1]):
                    assert found.read(gfn) == physical.read(gfn * PAGE, PAGE)
            if not found.is_hvm:
                assert found.frames[7] == domain.memory.p2m()[7]


def test_pages_by_their_frames(pvh: Path) -> None:
    with CoreFile(pvh) as found:
        assert list(found.ranges()) == [range(2), range(5, 6), range(0x100, 0x101)]
        assert found.read(0, 2) == b"first".ljust(PAGE, b"\0") + b"second".ljust(PAGE, b"\0")
        assert found.read(0x100)[:4] == b"last"
        assert (found.nr_missing, len(found.gfns)) == (2, 4)
        assert [vcpu["rip"] for vcpu in found.contexts] == [0x1234, 0x5678]
        for gfn, count in ((2, 1), (1, 2), (0x100, 2), (1 << 50, 1)):
            with pytest.raises(NotMapped, match="does not have that page"):
                found.read(gfn, count)
        for gfn, count in ((-1, 1), (0, 0), (0, 1 << 40), (1 << 60, 1)):
            with pytest.raises(ValueError, match="out of range"):
                found.read(gfn, count)


def test_a_32_bit_pv_guest(tmp_path: Path) -> None:
    frames = dict(zip(PAGES, (9, 3, 7, 1)))
    path = write(tmp_path / "core", core(PAGES, [context(32, eip=5, cr3=0x3000)], frames))
    with CoreFile(path) as found:
        assert (found.bits, found.contexts[0]["eip"]) == (32, 5)
        assert list(found.frames) == [9, 3, 7, 1]
        assert repr(found) == "<CoreFile of a 32-bit PV domain, 4 pages, vcpus 1>"


def test_runs() -> None:
    for numbers in ([], [3], [0, 1, 2], [0, 2, 4], [1, 2, 3, 9, 10, 11, 12, 13, 20], [*range(100), 200]):
        found = list(runs(array("Q", numbers)))
        assert [number for run in found for number in run] == numbers
        assert all(one.stop < next_.start for one, next_ in zip(found, found[1:]))


def header(data: bytes, name: bytes) -> int:
    """Where the header of a section is."""
    names = data.rindex(b".shstrtab") - 1
    index = data.index(name + b"\0", names) - names
    return next(at for at in range(64, 1024, 64) if struct.unpack_from("<I", data, at)[0] == index)


def put(at: int, form: str, *values: int) -> tuple[int, bytes]:
    return at, struct.pack(form, *values)


def damages(data: bytes) -> dict[str, tuple[int, bytes]]:
    """What can be wrong, with where it is and what stands there."""
    (pages, prstatus, pfn, notes) = (
        header(data, name) for name in (b".xen_pages", b".xen_prstatus", b".xen_pfn", b".note.Xen")
    )
    (frames,) = struct.unpack_from("<Q", data, pfn + 24)
    (note,) = struct.unpack_from("<Q", data, notes + 24)
    size = note + 16 + 16
    return {
        "at byte 0x0: this is not a core dump": (0, b"PK\3\4"),
        "at byte 0x4: only 64-bit": (4, b"\1"),
        "at byte 0x3a: 65535 section headers": put(60, "<H", 0xFFFF),
        "section headers of 384 bytes end beyond": put(40, "<Q", 1 << 62),
        "the names of sections have 18446744073709551615 bytes": put(64 + 64 + 32, "<Q", 2**64 - 1),
        "the notes have 1048576 bytes": put(notes + 32, "<Q", 1 << 20),
        "a note ends beyond its section": put(note + 4, "<I", 0xFFFF_FFF0),
        "the dump is of kind 0xf00febef": put(size, "<Q", 0xF00FEBEF),
        "99999999999 pages of 4096 bytes cannot be": put(size + 16, "<Q", 99999999999),
        "9999999 vcpus": put(size + 8, "<Q", 9999999),
        "pages of 0 bytes": put(size + 24, "<Q", 0),
        "section .xen_pages has 4096 bytes instead of 24576": put(pages + 32, "<Q", PAGE),
        "section .xen_pfn has 0 bytes instead of 48": put(pfn + 32, "<Q", 0),
        "registers of a vcpu have 7 bytes: not of x86": put(prstatus + 56, "<Q", 7),
        f"at byte {frames:#x}: the frames of .xen_pfn do not ascend": put(frames, "<Q", 1),
        f"at byte {frames:#x}: .xen_pfn has a page after those left out": put(frames, "<Q", 2**64 - 1),
        f"at byte {frames:#x}: .xen_pfn has the number of no frame": put(frames + 24, "<Q", 1 << 60),
        "the dump has no section .xen_pages": put(pages, "<I", 0),
        "registers of 10336 bytes end beyond the file": put(prstatus + 24, "<Q", 2**64 - 1),
    }


@pytest.mark.usefixtures("no_collection")
def test_a_damaged_dump(pvh: Path) -> None:
    data = pvh.read_bytes()
    for message, (at, new) in damages(data).items():
        pvh.write_bytes(data[:at] + new + data[at + len(new) :])
        with pytest.raises(DecodeError, match=re.escape(message)):
            CoreFile(pvh)
    before = len(os.listdir("/proc/self/fd"))
    for size in (0, 10, 63, 64, 500, 5000, len(data) - 200, len(data) - 1):
        pvh.write_bytes(data[:size])
        with pytest.raises(DecodeError, match="at byte"):
            CoreFile(pvh)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_dump_that_is_cut_off_while_it_is_read(pvh: Path) -> None:
    with CoreFile(pvh) as found:
        os.truncate(pvh, 600)
        with pytest.raises(DecodeError, match="was cut off while it was read"):
            found.read(0)


def test_a_sparse_file_lists_no_frames(tmp_path: Path) -> None:
    """Its list would have 512 MiB of memory, and takes no space on the disk."""
    total, path = 1 << 26, tmp_path / "core"
    notes = core_format.note(
        "<", core_format.HEADER, struct.pack("<4Q", core_format.MAGIC_HVM, 0, total, PAGE)
    )
    sections = [
        core_format.note_section(notes),
        Section(".xen_prstatus", 0, 8, len(context())),
        Section(".xen_pages", PAGE * total, PAGE, PAGE),
        Section(".xen_pfn", 8 * total, 8, 8),
    ]
    head = core_format.begin("<", "x86_64", sections) + notes
    head += bytes(core_format.padding(len(head), sections[2]))
    with path.open("wb") as file:
        file.write(head)
        file.seek(len(head) + (PAGE + 8) * total)
        file.write(core_format.names(sections))
    with pytest.raises(DecodeError, match=r"\.xen_pfn lists nothing but zeros"):
        CoreFile(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(DecodeError, match="not a regular file"):
            CoreFile(path)


def test_extract(pvh: Path, attributes_directory: Path) -> None:
    path = attributes_directory / "pages"
    with CoreFile(pvh) as found:
        assert extract(found, 0, 8, path) == (3, 5)
        data = path.read_bytes()
        assert len(data) == 8 * PAGE
        assert [data[start : start + 6].rstrip(b"\0") for start in range(0, len(data), PAGE)] == [
            b"first", b"second", b"", b"", b"", b"sixth", b"", b"",
        ]  # fmt: skip
        assert provenance.verify(path).verdict is provenance.Verdict.OK
        done = []
        assert extract(found, 0x100, 1, path, progress=lambda *reported: done.append(reported)) == (1, 0)
        assert (path.read_bytes()[:4], done) == (b"last", [(0, 1)])
        with pytest.raises(NotMapped, match="none of these pages"):
            extract(found, 2, 3, path)
        for gfn, count in ((-1, 1), (0, 0), (0, 1 << 40)):
            with pytest.raises(ValueError, match="is"):
                extract(found, gfn, count, path)
        path.write_bytes(b"something else")
        provenance_free = attributes_directory / "other"
        provenance_free.write_bytes(b"something else")
        with pytest.raises(FileExistsError, match="not a memory file"):
            extract(found, 0, 1, provenance_free)
        assert provenance_free.read_bytes() == b"something else"


def test_holes_take_no_space(tmp_path: Path) -> None:
    pages = {0: b"first", **dict.fromkeys(range(1, 256), b""), 0x8000: b"last"}
    path = write(tmp_path / "core", core(pages, []))
    with CoreFile(path) as found:
        extract(found, 0, 0x9000, tmp_path / "out", provenance="none")
    status = os.stat(tmp_path / "out")
    assert status.st_size == 0x9000 * PAGE
    assert status.st_blocks * 512 < 1 << 20
