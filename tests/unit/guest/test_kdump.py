# SPDX-License-Identifier: MIT
"""Compressed dumps of Linux, read by other code, by offsets as a C compiler has them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest
from cores import PAGE, context, core
from hosts import Host

from pyxc import DecodeError
from pyxc.guest.core_convert import convert
from pyxc.guest.core_file import CoreFile

TEXT = b"OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(a)=0\nNUMBER(phys_base)=-4096\n"
NOISE = bytes((37 * at * at + at // 7) % 251 for at in range(PAGE))


class Kdump(NamedTuple):
    """Contents by frame, the frames that have memory, the notes, VMCOREINFO, and the places of contents."""

    pages: dict[int, bytes]
    memory: set[int]
    notes: bytes
    text: bytes
    places: dict[int, int]
    phys_base: int


def read(path: Path) -> Kdump:
    data = path.read_bytes()
    assert data[:12] == b"KDUMP   " + struct.pack("<i", 6)
    block, second, bitmaps, most = struct.unpack_from("<iiII", data, 428)
    assert block == PAGE
    names = [data[at : at + 65].partition(b"\0")[0] for at in range(12, 402, 65)]
    assert (names[0], names[4]) == (b"Linux", b"x86_64")
    assert all(names[2:5]), "libkdumpfile needs them"
    base, *_ = struct.unpack_from("<q", data, block)
    text_at, text_size, notes_at, notes_size = struct.unpack_from("<4Q", data, block + 32)
    assert struct.unpack_from("<3Q", data, block + 80) == (0, most, most)
    at = (1 + second) * block

    def bits(start: int) -> list[int]:
        bitmap = data[start : start + bitmaps // 2 * block]
        return [frame for frame in range(8 * len(bitmap)) if bitmap[frame // 8] >> frame % 8 & 1]

    memory, listed = bits(at), bits(at + bitmaps // 2 * block)
    at += bitmaps * block
    pages, places = {}, {}
    for number, frame in enumerate(listed):
        place, size, flags, _ = struct.unpack_from("<QIIQ", data, at + 24 * number)
        content = data[place : place + size]
        pages[frame] = zlib.decompress(content) if flags == 1 else content
        places[frame] = place
        assert len(pages[frame]) == PAGE
    return Kdump(
        pages, set(memory), data[notes_at:][:notes_size], data[text_at:][:text_size], places, base
    )  # fmt: skip


def test_a_compressed_dump(tmp_path: Path) -> None:
    pages = {
        0: b"first",
        **{gfn: b"%d" % gfn for gfn in range(5, 40)},
        50: b"",
        51: NOISE,
        52: b"",
        4103: TEXT,
    }
    (tmp_path / "core").write_bytes(core(pages, [context(rip=5), context(rip=6)]))
    reported: list[tuple[int, int]] = []
    path = tmp_path / "kdump"
    with CoreFile(tmp_path / "core") as source:
        made = convert(
            source, path, format="kdump", progress=lambda *done: reported.append(done), provenance="none"
        )
    assert (made.nr_pages, made.nr_vcpus, made.kernel) == (len(pages), 2, "6.1.0")
    assert (reported[0], reported[-1]) == ((0, len(pages)), (len(pages), len(pages)))
    found = read(path)
    assert found.memory == pages.keys() == found.pages.keys()
    assert all(found.pages[gfn] == content.ljust(PAGE, b"\0") for gfn, content in pages.items())
    assert found.places[50] == found.places[52]
    assert (found.text, found.phys_base) == (TEXT, -4096)
    assert struct.unpack_from("<Q", found.notes, 20 + 240) == (5,)
    assert path.stat().st_size < 15 * PAGE
    assert sorted(file.name for file in tmp_path.iterdir()) == ["core", "kdump"]


def test_a_running_guest(host: Host, tmp_path: Path) -> None:
    made = host.xen.domains.create(hvm=True, hap=True)
    made.set_max_memory(8 << 10)
    made.memory.populate([*range(300), 0xFE000])
    made.memory.write(0xFE000, b"far")
    for _ in range(2):  # the second one replaces the first one
        assert made.dump_core(tmp_path / "kdump", format="kdump", provenance="none") == (301, 0, 0, None)
    found = read(tmp_path / "kdump")
    assert found.memory == {*range(300), 0xFE000}
    assert found.pages[0xFE000][:3] == b"far"


def test_a_far_page_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(core({0: b"", 1 << 40: b""}, []))
    with CoreFile(tmp_path / "core") as source, pytest.raises(DecodeError, match="too far from each other"):
        convert(source, tmp_path / "kdump", format="kdump", provenance="none")
    (tmp_path / "core").write_bytes(core({}, []))
    with CoreFile(tmp_path / "core") as source:
        convert(source, tmp_path / "kdump", format="kdump", provenance="none")
    assert read(tmp_path / "kdump").pages == {}
