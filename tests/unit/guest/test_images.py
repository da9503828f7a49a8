# SPDX-License-Identifier: MIT
"""Kernels: in all forms in which they are kept, and those that cannot be started."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import kernels
import pytest

from pyxc import DecodeError, MissingLibrary, Unsupported, sim
from pyxc.guest.elf import Elf
from pyxc.guest.images import Kernel, NoteType

EVERY_FORM = pytest.mark.parametrize("form", kernels.FORMATS)
PV, PV32, PVH = sim.kernel("pv"), sim.kernel("pv32"), sim.kernel("pvh")
P_OFFSET, P_FILESZ, P_MEMSZ = 64 + 8, 64 + 32, 64 + 40
"""Of the first program header of a 64-bit file."""
NOTES = 0x1000 + 64


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


@pytest.mark.parametrize(
    ("data", "kind", "bits", "entry"),
    [(PV, "pv", 64, 0xFFFFFFFF80200000), (PV32, "pv", 32, 0xC0100000), (PVH, "pvh", 32, 0x100000)],
)
def test_what_a_kernel_is_for(data: bytes, kind: str, bits: int, entry: int) -> None:
    kernel = Kernel.decode(data)
    assert (kernel.kinds, kernel.bits, kernel.elf.entry) == ((kind,), bits, entry)
    (segment,) = kernel.elf.segments
    assert (segment.size, segment.vaddr) == (0x3000, entry)
    assert segment.data[:3] == b"\xf4\xeb\xfd"


def test_the_numbers_of_notes() -> None:
    kernel = Kernel.decode(PV)
    assert kernel.number(NoteType.VIRT_BASE) == 0xFFFFFFFF80000000
    assert kernel.number(NoteType.INIT_P2M, 7) == 7
    assert Kernel.decode(PVH).number(NoteType.PHYS32_ENTRY) == 0x100000


def test_a_note_that_is_no_number() -> None:
    kernel = Kernel.decode(PV)
    with pytest.raises(DecodeError, match="GUEST_OS has 6 bytes instead of 4 or 8"):
        kernel.number(NoteType.GUEST_OS)


@EVERY_FORM
def test_compressed_in_a_bzimage(form: str) -> None:
    assert Kernel.decode(kernels.bzimage(kernels.FORMATS[form](PV))) == Kernel.decode(PV)


@EVERY_FORM
def test_compressed_alone(form: str) -> None:
    assert Kernel.decode(kernels.FORMATS[form](PVH)) == Kernel.decode(PVH)


def test_an_uncompressed_bzimage() -> None:
    assert Kernel.decode(kernels.bzimage(PV)) == Kernel.decode(PV)


def test_zstd() -> None:
    compress = pytest.importorskip("zstandard").ZstdCompressor().compress
    assert Kernel.decode(kernels.bzimage(compress(PV))) == Kernel.decode(PV)


def test_lz4_as_linux_writes_it() -> None:
    block = pytest.importorskip("lz4.block").compress(PV, store_size=False)
    data = b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block + struct.pack("<I", len(PV))
    assert Kernel.decode(kernels.bzimage(data)) == Kernel.decode(PV)


@pytest.mark.parametrize(
    ("package", "magic"), [("zstandard", b"\x28\xb5\x2f\xfd"), ("lz4", b"\x02\x21\x4c\x18")]
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str, magic: bytes) -> None:
    for module in (package, f"{package}.block"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingLibrary, match=f"needs the Python package {package}") as caught:
        Kernel.decode(kernels.bzimage(magic + bytes(64)))
    assert caught.value.name == package


def test_lzo_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="compressed with LZO"):
        Kernel.decode(kernels.bzimage(b"\x89LZO\0\r\n\x1a\n" + bytes(64)))


@EVERY_FORM
def test_a_bomb_costs_no_more_than_is_allowed(form: str) -> None:
    bomb = kernels.FORMATS[form](bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(DecodeError, match="more than 1048576 bytes"):
        Kernel.decode(kernels.bzimage(bomb), 1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@EVERY_FORM
def test_damaged_and_cut_data(form: str) -> None:
    data = kernels.FORMATS[form](PV)
    with pytest.raises(DecodeError, match="ends too early"):
        Kernel.decode(data[:-20])
    with pytest.raises(DecodeError):
        Kernel.decode(patched(data, len(data) // 2, b"\xff" * 30))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an ELF file"),
        (b"#!/bin/sh\n", "not an ELF file"),
        (PV[:40], "ends in its header"),
        (patched(PV, 4, b"\3"), "neither of 32 nor of 64 bits"),
        (patched(PV, 5, b"\2"), "not little-endian"),
        (PV[:100], "ends in its program headers"),
        (patched(PV, 56, b"\xff\xff"), "65535 program headers"),
        (patched(PV, 54, b"\x10\0"), "program headers have 16 bytes instead of 56"),
        (patched(PV, P_OFFSET, b"\xff" * 8), "segment of the ELF file reaches beyond"),
        (patched(PV, P_FILESZ, b"\xff" * 8), "a size that cannot be"),
        (patched(PV, P_MEMSZ, b"\xff" * 8), "a size that cannot be"),
        (patched(PV, P_MEMSZ, bytes(8)), "no segment to load"),
        (patched(PV, NOTES + 4, b"\xff\xff\xff\x7f"), "a note of the ELF file reaches beyond its segment"),
        (patched(PV, 18, b"\xb7\0"), "no ELF notes by which Xen starts it"),
        (PV.replace(b"xen-3.0", b"xen-2.0"), "no ELF notes by which Xen starts it"),
        (PV32.replace(b"yes\0", b"no\0\0"), "no ELF notes by which Xen starts it"),
        (PVH.replace(b"Xen\0", b"GNU\0"), "no ELF notes by which Xen starts it"),
        (kernels.bzimage(PV, version=0x0207), "boot protocol 2.07"),
        (kernels.bzimage(PV)[:-5000], "payload of the bzImage reaches beyond"),
    ],
)
def test_what_cannot_be_started(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        Kernel.decode(data)


def test_notes_in_sections_alone() -> None:
    """As in a vmlinux without note segments."""
    head = bytearray(PVH)
    size = struct.unpack_from("<I", PVH, 52 + 32 + 16)[0]
    head[52 + 32 : 52 + 36] = b"\0\0\0\0"
    struct.pack_into("<I", head, 32, len(head))
    struct.pack_into("<HH", head, 46, 40, 1)
    section = struct.pack("<IIIIIIIIII", 0, 7, 0, 0, NOTES, size, 0, 0, 4, 0)
    assert Kernel.decode(bytes(head) + section).kinds == ("pvh",)


def test_which_kind_is_made() -> None:
    kernel = Kernel.decode(PVH)
    assert kernel.kind(None) == kernel.kind("pvh") == "pvh"
    with pytest.raises(ValueError, match="cannot start as pv"):
        kernel.kind("pv")
    with pytest.raises(ValueError, match="expected one of pvh, pv"):
        kernel.kind("hvm")  # type: ignore[arg-type]


def test_data_behind_compressed_data_is_ignored() -> None:
    assert Elf.decode(zlib.decompress(zlib.compress(PV))) == Kernel.decode(PV).elf
    assert Kernel.decode(kernels.FORMATS["gzip"](PV) + b"\x12\x34\0\0").kinds == ("pv",)
