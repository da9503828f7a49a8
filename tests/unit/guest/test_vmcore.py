# SPDX-License-Identifier: MIT
"""Dumps as Linux has them, of running guests and of other dumps, read as ELF by other code and by GDB."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from cores import PAGE, context, core
from hosts import Host

from pyxc import DecodeError, DomainGone, DomainNotFound, Unsupported
from pyxc.domain import paging
from pyxc.domain.paging import Hole, Paging
from pyxc.files import provenance
from pyxc.guest import vmcore
from pyxc.guest.core_convert import Format, convert
from pyxc.guest.core_file import CoreFile

TEXT = (
    b"OSRELEASE=6.1.0-13-amd64\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffff800000002000\nNUMBER(phys_base)=0\n"
)
BASE = 0xFFFF_8000_0000_0000 + (17 << 39)
"""An address that a PV kernel may use: Xen has the 16 entries before."""


class Elf(NamedTuple):
    """A vmcore: contents by physical address, and its notes."""

    segments: dict[int, bytes]
    notes: list[tuple[bytes, int, bytes]]

    def read(self, address: int, size: int) -> bytes:
        start = max(start for start in self.segments if start <= address)
        found = self.segments[start][address - start :][:size]
        assert len(found) == size
        return found


def read(path: Path) -> Elf:
    data = path.read_bytes()
    assert data[:7] == b"\x7fELF\2\1\1"
    assert struct.unpack_from("<HH", data, 16) == (4, 62), "a core file of x86-64"
    offset, size, count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
    segments, notes = {}, []
    for at in range(offset, offset + size * count, size):
        kind, _, start, _, address, length, in_memory, align = struct.unpack_from("<IIQQQQQQ", data, at)
        content = data[start : start + length]
        assert len(content) == length == in_memory or kind == 4
        if kind == 1:
            assert start % PAGE == address % PAGE == 0
            assert align == 0, "crash would take it for a dump of an older format"
            segments[address] = content
        while kind == 4 and content:
            name, size_, type_ = struct.unpack_from("<III", content)
            begin = 12 + -(-name // 4) * 4
            notes.append((content[12 : 12 + name], type_, content[begin : begin + size_]))
            content = content[begin + -(-size_ // 4) * 4 :]
    return Elf(segments, notes)


def register(prstatus: bytes, name: str) -> int:
    """Offsets of struct elf_prstatus, as a C compiler has them."""
    place = {"rax": 192, "orig_rax": 232, "rip": 240, "rsp": 264, "gs_base": 288, "gs": 320}[name]
    assert len(prstatus) == 336
    return int(struct.unpack_from("<Q", prstatus, place)[0])


@pytest.fixture
def pvh(tmp_path: Path) -> Path:
    """Two vcpus; the kernel of the second one runs a program."""
    pages = {0: b"first", 1: TEXT, 2: b"", 5: b"sixth", 0xFEFF8: b"special", 9: b"OSRELEASE=6 impostor"}
    contexts = [
        context(rip=0xFFFF_FFFF_8100_0000, rax=7, cs=0x10, gs_base_kernel=3, gs_base_user=4, gs=5),
        context(rip=0x1234, cs=0x33, gs_base_kernel=3, gs_base_user=4),
    ]
    path = tmp_path / "pvh.core"
    path.write_bytes(core(pages, contexts))
    return path


def test_a_dump_by_physical_address(pvh: Path, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    with CoreFile(pvh) as source:
        made = convert(
            source, tmp_path / "vmcore", progress=lambda *done: reported.append(done), provenance="none"
        )
    assert made == (6, 4, 2, 0, "6.1.0-13-amd64")
    assert (reported[0], reported[-1]) == ((0, 6), (6, 6))
    found = read(tmp_path / "vmcore")
    assert {address: len(content) // PAGE for address, content in found.segments.items()} == {
        0: 3, 5 * PAGE: 1, 9 * PAGE: 1, 0xFEFF8000: 1,
    }  # fmt: skip
    assert found.read(0, 5) == b"first"
    assert found.read(0xFEFF8000, 7) == b"special"
    (kernel, program), text = found.notes[:2], found.notes[2]
    assert text == (b"VMCOREINFO\0", 0, TEXT)
    assert (kernel[:2], program[:2]) == ((b"CORE\0", 1), (b"CORE\0", 1))
    assert register(kernel[2], "rip") == 0xFFFF_FFFF_8100_0000
    assert [register(kernel[2], name) for name in ("rax", "gs_base", "gs")] == [7, 3, 5]
    assert [register(program[2], name) for name in ("rip", "gs_base")] == [0x1234, 4]


def test_gdb_reads_the_registers(pvh: Path, tmp_path: Path) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    with CoreFile(pvh) as source:
        convert(source, tmp_path / "vmcore", provenance="none")
    commands = ["-ex", "info threads", "-ex", "thread 2", "-ex", "print/x $rip", "-ex", "print/x $gs_base"]
    words = ["gdb", "-nx", "-batch", *commands, "-core", str(tmp_path / "vmcore")]
    reported = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "LWP 1" in reported
    assert "LWP 2" in reported
    assert reported.splitlines()[-2:] == ["$1 = 0x1234", "$2 = 0x4"]


def test_no_vmcoreinfo_and_one_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(core({0: b"OSRELEASE=6"}, []))
    with CoreFile(tmp_path / "core") as source:
        assert convert(source, tmp_path / "vmcore", provenance="none").kernel is None
        assert read(tmp_path / "vmcore").notes == []
        made = convert(source, tmp_path / "vmcore", vmcoreinfo=TEXT, provenance="none")
        assert (made.kernel, read(tmp_path / "vmcore").notes) == (
            "6.1.0-13-amd64",
            [(b"VMCOREINFO\0", 0, TEXT)],
        )
        with pytest.raises(DecodeError, match="not a VMCOREINFO"):
            convert(source, tmp_path / "vmcore", vmcoreinfo=b"x", provenance="none")


@pytest.mark.parametrize("format", ["vmcore", "kdump"])
def test_what_is_for_other_tools_is_said_to_be(format: Format, tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(core({0: b""}, []))
    with CoreFile(tmp_path / "core") as source:
        convert(source, tmp_path / "other", format=format, provenance="none")
    with pytest.raises(DecodeError, match="for the tools of Linux"):
        CoreFile(tmp_path / "other")


# Page tables of PV guests.


def table(entries: dict[int, int]) -> bytes:
    return struct.pack("<512Q", *(entries.get(index, 0) for index in range(512)))


FRAMES = {0: 0x901, 1: 0x500, 2: 0x777, 3: 0x300, 4: 0x200, 5: 0x100, 6: 0x40, 7: 0x900}
"""Machine frames by pfn: 1 and 2 are top tables, 3 to 5 those below, 6 a page, 7 the tables of a program."""
FOREIGN = 0xABCD


def tables() -> dict[int, bytes]:
    """The vcpu's top table maps the kernel's own one, which is its second page."""
    top = table({256: 0x500063, 260: 0x500063, 273: 0x300063})
    return {
        0: TEXT.replace(b"ffff800000002000", b"%x" % (BASE + 0x2000)),
        1: top,
        2: table({273: 0x300063, 0: 0x900067}),
        3: table({0: 0x200063}),
        4: table({0: 0x100063, 5: FOREIGN << 12 | 0x63}),
        5: table({1: 0x40063, 2: 0x777061, 3: FOREIGN << 12 | 0x63, 4: 0x40062, 5: 1 << 63 | 0x901063}),
        6: b"a page",
        7: table({1: 0x300063}),
    }


@pytest.fixture
def pv(tmp_path: Path) -> Path:
    path = tmp_path / "pv.core"
    path.write_bytes(core(tables(), [context(cr3=0x500000)], FRAMES))
    return path


def test_page_tables_of_a_pv_guest_become_physical(pv: Path, tmp_path: Path) -> None:
    with CoreFile(pv) as source:
        made = convert(source, tmp_path / "vmcore", provenance="none")
    # The top tables of the vcpu and the kernel, three below, and that of the program.
    assert (made.nr_tables, made.nr_segments) == (6, 1)
    found = read(tmp_path / "vmcore")

    def walk(root: int, address: int) -> paging.Translation | Hole:
        def word(frame: int, offset: int, size: int) -> int:
            return int.from_bytes(found.read(frame * PAGE + offset, size), "little")

        return paging.walk(Paging(4, root * PAGE), address, word)

    for root in (1, 2):
        page = walk(root, BASE + 0x1000)
        assert isinstance(page, paging.Translation)
        assert found.read(page.frame * PAGE, 6) == b"a page"
        kernels = walk(root, BASE + 0x2000)
        assert isinstance(kernels, paging.Translation)
        assert (kernels.frame, kernels.writable) == (2, False)
        last = walk(root, BASE + 0x5000)
        assert isinstance(last, paging.Translation)
        assert (last.frame, last.executable) == (0, False)
        for address in (BASE + 0x3000, BASE + 0x4000, BASE + (5 << 21), 0xFFFF_8000_0000_0000):
            assert isinstance(walk(root, address), Hole), hex(address)
    assert found.read(6 * PAGE, PAGE) == b"a page".ljust(PAGE, b"\0")


@pytest.mark.parametrize("words", [(7, BASE + 0x6000, BASE + 0x1000), (BASE + 0x6000, 7, BASE + 0x6000)])
def test_the_kernels_pointer_to_start_info(words: tuple[int, ...], tmp_path: Path) -> None:
    """By it crash takes the guest for one whose page tables have machine frames; two are none for certain."""
    pages = {
        **tables(), 5: table({2: 0x777061, 6: 0xA00063}),
        8: struct.pack("<3Q", *words), 9: b"xen-3.0-x86_64",
    }  # fmt: skip
    path = tmp_path / "core"
    path.write_bytes(core(pages, [context(cr3=0x500000)], {**FRAMES, 8: 0x950, 9: 0xA00}))
    with CoreFile(path) as source:
        convert(source, tmp_path / "vmcore", provenance="none")
    expected = (7, 0, BASE + 0x1000) if words[0] == 7 else words
    assert struct.unpack("<3Q", read(tmp_path / "vmcore").read(8 * PAGE, 24)) == expected


def test_a_large_page_is_no_table(tmp_path: Path) -> None:
    """A PV guest has none, but its contents must not be changed if it claims to."""
    page = table({0: 0x100063})
    pages = {**tables(), 4: table({0: 0x1000E3}), 5: page}
    (tmp_path / "core").write_bytes(core(pages, [context(cr3=0x500000)], FRAMES))
    with CoreFile(tmp_path / "core") as source:
        convert(source, tmp_path / "vmcore", provenance="none")
    assert read(tmp_path / "vmcore").read(5 * PAGE, PAGE) == page


def test_hostile_page_tables(tmp_path: Path) -> None:
    """A guest whose pages are all tables that lead to all others, and registers that lead nowhere."""
    pages = dict.fromkeys(range(64), table({index: (index % 64) << 12 | 0x67 for index in range(512)}))
    contexts = [context(cr3=cr3) for cr3 in (0x1000, 0x5000, 0xFFFF_F000, 2**64 - 1)]
    text = TEXT.replace(b"ffff800000002000", b"ffffffffffffffff")
    path = tmp_path / "core"
    path.write_bytes(core(pages, contexts, {pfn: pfn for pfn in pages}))
    with CoreFile(path) as source:
        made = convert(source, tmp_path / "vmcore", vmcoreinfo=text, provenance="none")
    assert made.nr_tables == 64


def test_a_32_bit_pv_guest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(core({0: b""}, [context(32, cr3=1)], {0: 7}))
    with CoreFile(tmp_path / "core") as source, pytest.raises(Unsupported, match="32-bit PV"):
        convert(source, tmp_path / "vmcore")
    assert [file.name for file in tmp_path.iterdir()] == ["core"]


# Memory with many holes.


def test_of_many_holes_the_small_ones_are_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmcore, "_MOST_SEGMENTS", 3)
    pages = {gfn: str(gfn).encode() for gfn in (0, 2, 4, 5, 8, 100, 1000, 1002)}
    (tmp_path / "core").write_bytes(core(pages, []))
    with CoreFile(tmp_path / "core") as source:
        assert convert(source, tmp_path / "vmcore", provenance="none").nr_segments == 3
        found = read(tmp_path / "vmcore")
        assert {start // PAGE: len(content) // PAGE for start, content in found.segments.items()} == {
            0: 9, 100: 1, 1000: 3,
        }  # fmt: skip
        assert all(found.read(gfn * PAGE, len(content)) == content for gfn, content in pages.items())
        assert found.read(3 * PAGE, PAGE) == bytes(PAGE)
        monkeypatch.setattr(vmcore, "_MOST_HOLES", 0)
        monkeypatch.setattr(vmcore, "_HOLES_PER_PAGE", 0)
        with pytest.raises(DecodeError, match="too far from each other"):
            convert(source, tmp_path / "vmcore", provenance="none")


# Of a running guest.


def test_a_running_guest_and_its_dump_have_the_same_vmcore(host: Host, tmp_path: Path) -> None:
    domain = host.xen.domains["build"]
    with domain.memory.physical as physical:
        first = physical.read(0, PAGE)
    made = domain.dump_core(tmp_path / "vmcore", format="vmcore", provenance="none")
    assert made == (8192, 0, 1, None)
    domain.dump_core(tmp_path / "core", provenance="none")
    with CoreFile(tmp_path / "core") as source:
        assert convert(source, tmp_path / "other", provenance="none").nr_tables > 0
    assert (tmp_path / "vmcore").read_bytes() == (tmp_path / "other").read_bytes()
    assert read(tmp_path / "vmcore").read(0, PAGE) == first
    assert os.stat(tmp_path / "vmcore").st_blocks * 512 < 1 << 20, "pages of zeros take no space"


def small(host: Host, pages: int = 300) -> int:
    made = host.xen.domains.create(hvm=True, hap=True)
    made.set_max_memory(8 << 10)
    made.memory.populate(range(pages))
    made.memory.write(7, TEXT)
    return made.domid


def test_the_kernel_of_a_running_guest_is_found(host: Host, attributes_directory: Path) -> None:
    path = attributes_directory / "vmcore"
    domain = host.xen.domains[small(host)]
    assert domain.dump_core(path, format="vmcore") == (300, 0, 0, "6.1.0-13-amd64")
    origin = provenance.read(path).origin
    assert origin is not None and origin.domain is not None
    assert (origin.kind, origin.domain.uuid) == ("vmcore", str(domain.uuid))
    assert provenance.verify(path).verdict is provenance.Verdict.OK
    with pytest.raises(ValueError, match="format is 'elf': expected one of xen, vmcore, kdump"):
        domain.dump_core(path, format="elf")  # type: ignore[arg-type]


def test_a_page_that_cannot_be_read_is_zeros(host: Host, tmp_path: Path) -> None:
    domain = host.xen.domains[small(host)]
    domain.memory.write(9, b"gone soon")
    made = domain.dump_core(
        tmp_path / "vmcore",
        format="vmcore",
        progress=lambda done, _: None if done else domain.memory.decrease([9]),
        provenance="none",
    )
    assert (made.nr_pages, made.nr_missing) == (300, 1)
    found = read(tmp_path / "vmcore")
    assert found.read(9 * PAGE, PAGE) == bytes(PAGE)
    assert found.read(7 * PAGE, len(TEXT)) == TEXT


def test_a_vmcore_that_fails_has_not_its_name(host: Host, tmp_path: Path) -> None:
    domain, path = host.xen.domains[small(host)], tmp_path / "vmcore"

    def fail(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        domain.dump_core(path, format="vmcore", progress=fail, provenance="none")
    assert [file.name for file in tmp_path.iterdir()] == ["vmcore.part"]
    for _ in range(2):
        domain.dump_core(path, format="vmcore", provenance="none")
        assert [file.name for file in tmp_path.iterdir()] == ["vmcore"]
    with pytest.raises(FileExistsError, match="not a core file"):
        domain.dump_core(path, provenance="none")
    path.write_bytes(b"\x7fELF\2\1\1".ljust(64, b"\0"))
    with pytest.raises(FileExistsError, match="not a vmcore file"):
        domain.dump_core(path, format="vmcore", provenance="none")


def test_no_page_of_a_domain_that_got_the_id(host: Host, tmp_path: Path) -> None:
    domain = host.xen.domains[small(host)]

    def swap(done: int, total: int) -> None:
        if done:
            host.truth.kill(host.truth.domains[domain.domid])

    with pytest.raises((DomainGone, DomainNotFound)):
        domain.dump_core(tmp_path / "vmcore", format="vmcore", progress=swap, provenance="none")
    assert not (tmp_path / "vmcore").exists()
