# SPDX-License-Identifier: MIT
"""PVH guests on paper: where everything is, and what the guest finds when it starts."""

from __future__ import annotations

import struct

import pytest

from pyxc import DecodeError, HvmParam, MemoryType, sim
from pyxc._core import PAGE_SIZE
from pyxc.abi import hvm_save, hvm_start_info
from pyxc.abi.hvm_save import HvmRecordType
from pyxc.domain.hvm_context import HvmContext
from pyxc.guest import build_pvh
from pyxc.guest.images import Kernel
from pyxc.guest.placing import Piece, Run, runs

INTERFACE = sim.named("sim:xen-4.17").interface
KERNEL = Kernel.decode(sim.kernel("pvh"))
START = 0x100000
MIB = 256
"""Pages."""


def planned(pages: int = 16 * MIB, command_line: bytes = b"", ramdisk: bytes = b"") -> build_pvh.PvhPlan:
    return build_pvh.plan(INTERFACE, KERNEL, pages, command_line, ramdisk)


def content(plan: build_pvh.PvhPlan, address: int, size: int) -> bytes:
    """What the pieces put at an address."""
    for piece in plan.pieces:
        if piece.address <= address < piece.stop:
            data = bytes(piece.data).ljust(piece.stop - piece.address, b"\0")
            return data[address - piece.address :][:size]
    raise KeyError(address)


def start_info(plan: build_pvh.PvhPlan) -> dict[str, int]:
    layout = hvm_start_info.START_INFO_STRUCT.at(INTERFACE)
    return layout.unpack(content(plan, plan.start_info, layout.size))


def test_the_kernel_is_where_it_wants_to_be() -> None:
    plan = planned()
    assert plan.entry == START
    assert content(plan, START, 3) == b"\xf4\xeb\xfd"
    assert content(plan, START + 0x2FF8, 8) == bytes(8)


def test_the_start_info() -> None:
    plan = planned(command_line=b"console=hvc0", ramdisk=b"initrd" * 1000)
    info = start_info(plan)
    assert (info["magic"], info["version"], info["nr_modules"]) == (0x336EC578, 1, 1)
    assert content(plan, info["cmdline_paddr"], 13) == b"console=hvc0\0"
    module = hvm_start_info.MODULE_STRUCT.at(INTERFACE)
    found = module.unpack(content(plan, info["modlist_paddr"], module.size))
    assert (found["paddr"] % PAGE_SIZE, found["size"]) == (0, 6000)
    assert content(plan, found["paddr"], 6000) == b"initrd" * 1000


def test_without_a_ramdisk_there_is_no_module() -> None:
    info = start_info(planned())
    assert (info["nr_modules"], info["modlist_paddr"]) == (0, 0)


@pytest.mark.parametrize(
    ("pages", "ram"),
    [
        (16 * MIB, (range(16 * MIB),)),
        (0xFC000, (range(0xFC000),)),
        (0xFC001, (range(0xFC000), range(0x100000, 0x100001))),
        (8192 * MIB, (range(0xFC000), range(0x100000, 8192 * MIB + 0x4000))),
    ],
)
def test_memory_has_a_hole_below_4_gib(pages: int, ram: tuple[range, ...]) -> None:
    plan = planned(pages)
    assert plan.ram == ram
    assert sum(map(len, ram)) == pages
    usable = [(part.start, part.size) for part in plan.e820 if part.type is MemoryType.RAM]
    assert usable == [(part.start * PAGE_SIZE, len(part) * PAGE_SIZE) for part in ram]


def test_the_guest_is_told_the_same_memory_as_xen() -> None:
    plan = planned(8192 * MIB)
    info = start_info(plan)
    layout = hvm_start_info.MEMORY_STRUCT.at(INTERFACE)
    assert info["memmap_entries"] == 4
    data = content(plan, info["memmap_paddr"], 4 * layout.size)
    found = [layout.unpack(data, place) for place in range(0, len(data), layout.size)]
    told = [(part["addr"], part["size"], part["type"]) for part in found]
    assert told == list(map(tuple, plan.e820))


def test_special_pages_are_no_memory_and_empty() -> None:
    plan = planned(8192 * MIB)
    gfns = [value for param, value in plan.params.items() if param is not HvmParam.IDENT_PT]
    assert len(set(gfns)) == len(gfns)
    for gfn in gfns:
        assert gfn in build_pvh.SPECIAL and not any(gfn in part for part in plan.ram)
        assert content(plan, gfn * PAGE_SIZE, PAGE_SIZE) == bytes(PAGE_SIZE)


def test_the_identity_page_table() -> None:
    plan = planned()
    table = memoryview(content(plan, plan.params[HvmParam.IDENT_PT], PAGE_SIZE)).cast("B")
    entries = [int.from_bytes(table[place : place + 4], "little") for place in range(0, PAGE_SIZE, 4)]
    assert entries == [index << 22 | 0xE7 for index in range(1024)]


def saved(vcpus: int) -> HvmContext:
    """What Xen has of a new domain, as far as it matters."""
    record = hvm_save.DESCRIPTOR_STRUCT.at(INTERFACE)
    header = hvm_save.HEADER_STRUCT.at(INTERFACE).pack({"magic": 0x54381286, "version": 1, "cpuid": 0x663})
    parts = [(1, 0, header), *((14, vcpu, bytes([vcpu + 1]) * 240) for vcpu in range(vcpus)), (0, 0, b"")]
    return HvmContext(
        b"".join(
            record.pack({"typecode": kind, "instance": instance, "length": len(data)}) + data
            for kind, instance, data in parts
        ),
        INTERFACE,
    )


def test_registers_at_the_start() -> None:
    plan = planned()
    context = build_pvh.context(saved(2), INTERFACE, plan, 2)
    layout = hvm_save.CPU_STRUCT.at(INTERFACE)
    registers = layout.unpack(context.record(HvmRecordType.CPU))
    assert (registers["rip"], registers["rbx"], registers["cr0"]) == (START, plan.start_info, 0x11)
    assert (registers["cs_arbytes"], registers["ds_limit"]) == (0xC9B, 0xFFFFFFFF)
    offsets = {"rbx": 520, "rip": 640, "cr0": 656, "dr6": 720, "cs_limit": 768, "tr_limit": 792,
               "cs_arbytes": 888, "ss_arbytes": 908, "tr_arbytes": 912}  # fmt: skip
    assert {name: layout.offsets[name] for name in offsets} == offsets


def test_the_other_records() -> None:
    """Xen's own header comes back to it, and caches are on for every vcpu."""
    before = saved(2)
    context = build_pvh.context(before, INTERFACE, planned(), 2)
    assert [record.type for record in context] == [1, 14, 14, 2, 0]
    assert context.record(HvmRecordType.HEADER) == before.record(HvmRecordType.HEADER)
    mtrr = context.record(HvmRecordType.MTRR, 1)
    assert mtrr[:232] == b"\2" * 232
    assert mtrr[232:] == b"\x06\x08" + bytes(6)


@pytest.mark.parametrize(
    ("pages", "command_line", "ramdisk", "message"),
    [
        (0x103, b"", b"", "memory is too small: kernel and ramdisk need"),
        (0x104, b"", bytes(PAGE_SIZE), "memory is too small: kernel and ramdisk need"),
        (MIB * 16, b"x" * PAGE_SIZE, b"", "the command line has 4096 bytes"),
        (MIB * 16, b"a\0b", b"", "the command line has 3 bytes"),
    ],
)
def test_what_cannot_be(pages: int, command_line: bytes, ramdisk: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planned(pages, command_line, ramdisk)


def test_an_entry_outside_of_the_kernel() -> None:
    data = sim.kernel("pvh")
    place = data.index(b"Xen\0") + 4
    kernel = Kernel.decode(data[:place] + b"\0\0\0\x40" + data[place + 4 :])
    with pytest.raises(DecodeError, match="entry 0x40000000"):
        build_pvh.plan(INTERFACE, kernel, 16 * MIB)


def test_segments_in_the_same_place() -> None:
    twice = KERNEL._replace(elf=KERNEL.elf._replace(segments=KERNEL.elf.segments * 2))
    with pytest.raises(DecodeError, match="same place"):
        build_pvh.plan(INTERFACE, twice, 16 * MIB)


def test_extents_are_as_large_as_their_place_allows() -> None:
    assert list(runs(range(5, 1 << 19))) == [
        Run(5, 0, 507), Run(512, 9, 511), Run(1 << 18, 18, 1)
    ]  # fmt: skip
    assert list(runs(range(3, 9), (9, 0))) == [Run(3, 0, 6)]
    assert list(runs(range(7, 7))) == []


def test_which_frames_a_piece_touches() -> None:
    assert Piece(0x1FFF, b"ab").frames == range(1, 3)
    assert Piece(0x1000, b"", 0x1000).frames == range(1, 2)


@pytest.mark.parametrize("vcpus", [1, 3, 128])
def test_acpi_tables_list_the_vcpus(vcpus: int) -> None:
    plan = build_pvh.plan(INTERFACE, KERNEL, 16 * MIB, vcpus=vcpus)
    rsdp_at = start_info(plan)["rsdp_paddr"]
    rsdp = content(plan, rsdp_at, 36)
    assert (rsdp[:8], sum(rsdp[:20]) & 255, sum(rsdp) & 255) == (b"RSD PTR ", 0, 0)
    xsdt = acpi_table(plan, int.from_bytes(rsdp[24:32], "little"), b"XSDT")
    fadt_at, madt_at = struct.unpack_from("<QQ", xsdt, 36)
    fadt = acpi_table(plan, fadt_at, b"FACP")
    assert acpi_table(plan, *struct.unpack_from("<I", fadt, 40), b"DSDT")
    assert struct.unpack_from("<Q", fadt, 140) == struct.unpack_from("<I", fadt, 40)
    madt = acpi_table(plan, madt_at, b"APIC")
    found = [madt[at : at + 8] for at in range(44, len(madt), 8)]
    assert found == [struct.pack("<BBBBI", 0, 8, vcpu, 2 * vcpu, 1) for vcpu in range(vcpus)]
    assert madt_at + len(madt) <= rsdp_at + PAGE_SIZE
    (acpi,) = [part for part in plan.e820 if part.type is MemoryType.ACPI]
    assert (acpi.start, acpi.size) == (rsdp_at, PAGE_SIZE)


def acpi_table(plan: build_pvh.PvhPlan, address: int, signature: bytes) -> bytes:
    """A table, once its head and checksum are right."""
    size = int.from_bytes(content(plan, address + 4, 4), "little")
    data = content(plan, address, size)
    assert (data[:4], sum(data) & 255, len(data)) == (signature, 0, size)
    return data
