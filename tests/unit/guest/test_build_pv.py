# SPDX-License-Identifier: MIT
"""PV guests on paper: where everything is, what their page tables map, and how they start."""

from __future__ import annotations

import struct
from array import array

import pytest

from pyxc import DecodeError, sim
from pyxc._core import PAGE_SIZE
from pyxc.abi.arch import x86
from pyxc.guest import build_pv
from pyxc.guest.build_pv import PvPlan
from pyxc.guest.built import Rings
from pyxc.guest.images import Kernel, NoteType

INTERFACE = sim.named("sim:xen-4.17").interface
KERNELS = {bits: Kernel.decode(sim.kernel(name)) for bits, name in ((64, "pv"), (32, "pv32"))}
MIB = 256
"""Pages."""
FIRST_MFN = 0x5000
WIDTHS = pytest.mark.parametrize("bits", KERNELS)
LINUX_P2M = 0x8000000000


def noted(kernel: Kernel, **notes: int) -> Kernel:
    """The kernel with more notes, or other ones."""
    more = {NoteType[name]: struct.pack("<Q", value) for name, value in notes.items()}
    return kernel._replace(notes={**kernel.notes, **more})


def frames_of(plan: PvPlan) -> array[int]:
    """Machine frames, in the wrong order."""
    return array("Q", reversed(range(FIRST_MFN, FIRST_MFN + plan.pages)))


def translate(plan: PvPlan, address: int) -> tuple[int, bool]:
    """What a processor makes of a virtual address: the pfn, and whether it may be written."""
    frames = frames_of(plan)
    memory = {frames[piece.address // PAGE_SIZE]: piece.data for piece in build_pv.tables(plan, frames)}
    mfn, levels = frames[plan.root], 4 if plan.bits == 64 else 3
    for level in range(levels, 0, -1):
        index = address >> (3 + 9 * level) & 511
        (entry,) = struct.unpack_from("<Q", memory[mfn], 8 * index)
        assert entry & x86.PTE_PRESENT, hex(address)
        assert level < levels or levels == 4 or entry & 0xFFF == x86.PTE_PRESENT
        mfn = (entry & x86.PTE_FRAME_MASK) >> 12
    return frames.index(mfn), bool(entry & x86.PTE_WRITABLE)


def start_info(plan: PvPlan) -> dict[str, int]:
    table = x86.START_INFO_STRUCT if plan.bits == 64 else x86.START_INFO_32_STRUCT
    piece = build_pv.start_info(INTERFACE, plan, Rings(7, 1, 8, 2), 9)
    assert piece.frames == range(plan.start_info, plan.start_info + 1)
    return table.at(INTERFACE).unpack(piece.data)


@WIDTHS
def test_everything_is_mapped_where_the_guest_looks_for_it(bits: int) -> None:
    plan = build_pv.plan(KERNELS[bits], 16 * MIB, ramdisk=b"x" * 5000)
    info = start_info(plan)
    assert translate(plan, plan.entry)[0] == KERNELS[bits].elf.segments[0].paddr // PAGE_SIZE
    assert translate(plan, info["mfn_list"]) == (plan.p2m.pfn, True)
    assert translate(plan, info["pt_base"]) == (plan.root, False)
    assert translate(plan, info["mod_start"])[0] == plan.pieces[1].address // PAGE_SIZE
    for pfn in (plan.start_info, plan.store, plan.console, plan.stack):
        assert translate(plan, plan.address(pfn)) == (pfn, True)


@WIDTHS
def test_no_page_has_two_purposes(bits: int) -> None:
    plan = build_pv.plan(KERNELS[bits], 16 * MIB, ramdisk=b"x" * 5000)
    used = [pfn for piece in plan.pieces for pfn in piece.frames]
    used += [*plan.tables.values(), plan.start_info, plan.store, plan.console, plan.stack]
    used += range(plan.p2m.pfn, plan.p2m.pfn + plan.p2m.pages)
    assert len(used) == len(set(used))
    assert max(used) < plan.spans[0].pages <= plan.pages


@WIDTHS
def test_tables_are_read_only_and_all_else_is_not(bits: int) -> None:
    plan = build_pv.plan(KERNELS[bits], 4 * MIB)
    tables = set(plan.tables.values())
    assert len(tables) == len(plan.tables) == (5 if bits == 64 else 4)
    for pfn in range(plan.spans[0].pages):
        assert translate(plan, plan.address(pfn)) == (pfn, pfn not in tables)


@WIDTHS
def test_the_mapping_ends_at_4_mib_with_space(bits: int) -> None:
    plan = build_pv.plan(KERNELS[bits], 16 * MIB)
    assert plan.spans[0].stop % (4 << 20) == 0
    assert plan.spans[0].stop - plan.address(plan.stack + 1) >= 512 << 10


@WIDTHS
def test_the_p2m(bits: int) -> None:
    plan = build_pv.plan(KERNELS[bits], 4 * MIB)
    frames = frames_of(plan)
    piece = build_pv.p2m(plan, frames)
    assert struct.unpack(f"<{len(frames)}{'Q' if bits == 64 else 'I'}", piece.data) == tuple(frames)
    assert piece.frames == range(plan.p2m.pfn, plan.p2m.pfn + plan.p2m.pages)


@WIDTHS
def test_the_start_info(bits: int) -> None:
    plan = build_pv.plan(KERNELS[bits], 4 * MIB, b"console=hvc0")
    info = start_info(plan)
    magic = b"xen-3.0-x86_64" if bits == 64 else b"xen-3.0-x86_32p"
    assert info["magic"] == magic.ljust(32, b"\0")
    assert info["cmd_line"].rstrip(b"\0") == b"console=hvc0"
    fields = {"nr_pages": 1024, "shared_info": 9 << 12, "flags": 0, "store_mfn": 7, "store_evtchn": 1,
              "console.domU.mfn": 8, "console.domU.evtchn": 2, "nr_pt_frames": len(plan.tables),
              "mod_start": 0, "mod_len": 0, "first_p2m_pfn": 0, "nr_p2m_frames": 0}  # fmt: skip
    assert {name: info[name] for name in fields} == fields


def test_registers_of_a_64_bit_guest() -> None:
    plan = build_pv.plan(KERNELS[64], 4 * MIB)
    found = build_pv.registers(INTERFACE, plan, 0x1234)
    assert (found["rip"], found["rsi"]) == (plan.entry, plan.address(plan.start_info))
    assert (found["cs"], found["ss"], found["kernel_ss"]) == (0xE033, 0xE02B, 0xE02B)
    assert (found["flags"], found["rflags"], found["cr3"]) == (0x24, 0x200, 0x1234000)
    assert found["rsp"] == found["kernel_sp"] == plan.address(plan.stack) + PAGE_SIZE
    assert (found["dr6"], found["dr7"], found["ds"]) == (0xFFFF0FF0, 0x400, 0)


def test_registers_of_a_32_bit_guest() -> None:
    plan = build_pv.plan(KERNELS[32], 4 * MIB)
    found = build_pv.registers(INTERFACE, plan, 0x123456)
    assert (found["eip"], found["esi"]) == (plan.entry, plan.address(plan.start_info))
    assert (found["cs"], found["ss"], found["ds"]) == (0xE019, 0xE021, 0xE021)
    assert found["cr3"] == 0x23456001


def test_as_linux_wants_it() -> None:
    """Ramdisk and p2m are behind the mapping, the p2m with tables of its own."""
    kernel = noted(KERNELS[64], INIT_P2M=LINUX_P2M, MOD_START_PFN=1)
    plan = build_pv.plan(kernel, 96 * MIB, ramdisk=b"x" * 5000)
    info = start_info(plan)
    mapped = plan.spans[0].pages
    assert (info["flags"], info["mod_start"], info["mod_len"]) == (8, mapped, 5000)
    assert (info["first_p2m_pfn"], info["nr_p2m_frames"]) == (mapped + 2, 48 + 3)
    assert info["mfn_list"] == LINUX_P2M
    assert info["nr_pt_frames"] == len(plan.tables) - 3
    for page in range(48):
        assert translate(plan, LINUX_P2M + page * PAGE_SIZE) == (mapped + 2 + page, True)
    contents = b"".join(bytes(piece.data) for piece in build_pv.tables(plan, frames_of(plan)))
    named = [entry for (entry,) in struct.iter_unpack("<Q", contents) if entry]
    assert len(named) == sum(span.pages for span in plan.spans) + len(plan.tables) - 1, "each of them once"


def test_a_hypercall_page() -> None:
    base = KERNELS[64].number(NoteType.VIRT_BASE)
    plan = build_pv.plan(noted(KERNELS[64], HYPERCALL_PAGE=base + 0x201000), 16 * MIB)
    assert plan.hypercall_page == 0x201
    with pytest.raises(DecodeError, match="hypercall page"):
        build_pv.plan(noted(KERNELS[64], HYPERCALL_PAGE=base + 0x201008), 16 * MIB)


def test_no_event_comes_before_the_guest_wants_one() -> None:
    page = build_pv.shared_info()
    assert len(page) == PAGE_SIZE
    assert [place for place, byte in enumerate(page) if byte] == [64 * vcpu + 1 for vcpu in range(32)]


@pytest.mark.parametrize(
    ("pages", "command_line", "ramdisk", "message"),
    [
        (4 * MIB - 1, b"", b"", "memory is too small: kernel and ramdisk need 4096 KiB"),
        (4 * MIB, b"", bytes(4 << 20), "memory is too small"),
        (16 * MIB, b"x" * 1024, b"", "the command line has 1024 bytes"),
        (16 * MIB, b"a\0b", b"", "the command line has 3 bytes"),
    ],
)
def test_what_cannot_be(pages: int, command_line: bytes, ramdisk: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_pv.plan(KERNELS[64], pages, command_line, ramdisk)


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"ENTRY": 0xFFFFFFFF90000000}, "entry 0xffffffff90000000 is not in any"),
        ({"PADDR_OFFSET": 0x300000}, "below its PADDR_OFFSET"),
        ({"VIRT_BASE": 0x7FFFFFFFF000}, "wants to be mapped at 0x7ffffffff000"),
        ({"VIRT_BASE": 0xFFFFFFFFFFE00000}, "wants to be mapped"),
        ({"VIRT_BASE": 0xFFFFFFFF80000008}, "wants to be mapped"),
        ({"INIT_P2M": 0xFFFFFFFF80000000}, "wants its p2m where it is itself"),
        ({"INIT_P2M": 0x900000000000}, "wants to be mapped"),
    ],
)
def test_a_kernel_that_says_what_cannot_be(notes: dict[str, int], message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        build_pv.plan(noted(KERNELS[64], **notes), 16 * MIB)


def test_a_large_guest_costs_no_object_for_each_page() -> None:
    plan = build_pv.plan(noted(KERNELS[64], INIT_P2M=LINUX_P2M), 64 << 18)
    assert plan.p2m.pages == 64 << 9
    assert len(plan.tables) < 100
