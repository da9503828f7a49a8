# SPDX-License-Identifier: MIT
"""The inside of a PV guest: its p2m as it publishes it, page tables, start_info, console and registers."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator

from pyxc._core import PAGE_SIZE
from pyxc.abi import console
from pyxc.abi.arch import x86
from pyxc.abi.arch.x86 import ContextFlag
from pyxc.abi.domctl import PAGE_PINNED, PageType
from pyxc.sim.model.context import CR0, CR4
from pyxc.sim.model.domain import Domain, Rings
from pyxc.sim.model.host import Host
from pyxc.sim.model.machine import WORDS_PER_PAGE
from pyxc.sim.model.words import Words

P2M_VADDR = 0xFFFF_C900_0000_1000
_KERNEL = 0xFFFF_FFFF_8100_0000
_TABLE_BITS = 0x67
_PAGE_BITS = 0x23
_GREETING = b"Linux version 6.1 (simulated)\r\n"
_NATIVE = Words(sys.byteorder)
START_INFO_PFN, _STORE_PFN, _CONSOLE_PFN = 11, 12, 13


class P2m:
    """A p2m: runs of the guest's own frames, and entries that are something else.

    It may serve many hosts, and is not changed once the first of them uses it.
    """

    def __init__(self) -> None:
        self.entries = array("Q")
        self.runs: list[tuple[int, range]] = []
        self.tot_pages = 0
        self._packed: dict[str, bytes] = {}
        self._packed_m2p: dict[str, list[tuple[int, bytes]]] = {}

    def map(self, *runs: range) -> None:
        """Runs of consecutive frames at the next pfns."""
        for frames in runs:
            self.runs.append((len(self.entries), frames))
            self.tot_pages += len(frames)
            self.entries.frombytes(_NATIVE.pack_run(frames))

    def hold(self, entries: Iterable[int]) -> None:
        """Entries that are no frames of the guest's own."""
        self.entries.extend(entries)

    def packed(self, words: Words) -> bytes:
        """All entries as a machine has them in memory, to the end of a page. Kept for the next host."""
        found = self._packed.get(words.byteorder)
        if found is None:
            pages = _pages(len(self.entries))
            found = words.pack(self.entries).ljust(pages * PAGE_SIZE, b"\xff")
            self._packed[words.byteorder] = found
        return found

    def packed_m2p(self, words: Words) -> list[tuple[int, bytes]]:
        """The pfns of the guest's frames: first frame and pfns of each piece. Kept for the next host."""
        found = self._packed_m2p.get(words.byteorder)
        if found is None:
            found = self._packed_m2p[words.byteorder] = list(self._m2p(words))
        return found

    def _m2p(self, words: Words) -> Iterator[tuple[int, bytes]]:
        first, stop, parts = 0, 0, [b""]
        for pfn, frames in sorted(self.runs, key=lambda run: run[1].start):
            if frames.start != stop:
                yield first, b"".join(parts)
                first, parts = frames.start, []
            parts.append(words.pack_run(range(pfn, pfn + len(frames))))
            stop = frames.stop
        yield first, b"".join(parts)


class _Frames:
    """Frames of a guest for its own tables, from the end of its memory."""

    def __init__(self, runs: list[range]) -> None:
        self._runs = runs

    def take(self, count: int = 1) -> list[int]:
        taken: list[int] = []
        while len(taken) < count:
            run = self._runs.pop()
            rest = max(0, len(run) - (count - len(taken)))
            taken.extend(run[rest:])
            if rest:
                self._runs.append(run[:rest])
        return taken


def furnish(xen: Host, domain: Domain, p2m: P2m, linear: bool = True) -> None:
    """Make a PV guest of a domain whose memory is laid out by a p2m.

    `linear`: it publishes the p2m as a list in its address space too, not only as a tree of frames.
    """
    machine, entries = xen.machine, p2m.entries
    domain.tot_pages = p2m.tot_pages
    domain.rings = Rings(entries[_STORE_PFN], entries[_CONSOLE_PFN])
    for first, pfns in p2m.packed_m2p(machine.words):
        machine.write_m2p(first, pfns)
    frames = _Frames([run for _, run in p2m.runs])
    leaves = frames.take(_pages(len(entries)))
    machine.write_pages(leaves, p2m.packed(machine.words))
    root = _page_tables(xen, frames, leaves)
    arch = {"max_pfn": len(entries), "pfn_to_mfn_frame_list_list": _tree(xen, frames, leaves)}
    if linear and xen.profile.since(4, 6):
        arch.update(p2m_cr3=root << 12, p2m_vaddr=P2M_VADDR, p2m_generation=2)
    place = xen.layout(x86.SHARED_INFO_STRUCT).offsets["arch.max_pfn"]
    machine.memory.write(domain.shared_info, place, xen.layout(x86.ARCH_SHARED_INFO_STRUCT).pack(arch))
    _write_start_info(xen, domain, entries)
    for vcpu in domain.live_vcpus:
        vcpu.context = _context(xen, root, vcpu.index)


def _pages(words: int) -> int:
    return -(-words // WORDS_PER_PAGE)


def _page_tables(xen: Host, frames: _Frames, leaves: list[int]) -> int:
    """Four levels that map the p2m's pages one after the other; returns the frame of the root."""
    first = P2M_VADDR >> 12 & (WORDS_PER_PAGE - 1)
    entries = [0] * first + [leaf << 12 | _PAGE_BITS for leaf in leaves]
    kind = [PageType.L1TAB, PageType.L2TAB, PageType.L3TAB, PageType.L4TAB | PAGE_PINNED]
    tables: list[int] = []
    for level, place in enumerate((0, P2M_VADDR >> 21, P2M_VADDR >> 30, P2M_VADDR >> 39)):
        place &= WORDS_PER_PAGE - 1
        if level:
            entries = [0] * place + [table << 12 | _TABLE_BITS for table in tables]
        tables = frames.take(_pages(len(entries)))
        xen.machine.write_pages(tables, xen.machine.words.pack(entries))
        xen.machine.types.update(dict.fromkeys(tables, int(kind[level])))
    return tables[0]


def _tree(xen: Host, frames: _Frames, leaves: list[int]) -> int:
    """Lists of the p2m's frames, and the list of these lists, whose frame is the answer."""
    lists = frames.take(_pages(len(leaves)))
    xen.machine.write_pages(lists, xen.machine.words.pack(leaves))
    (root,) = frames.take()
    xen.machine.write_pages([root], xen.machine.words.pack(lists))
    return root


def _write_start_info(xen: Host, domain: Domain, p2m: array[int]) -> None:
    major, minor = xen.profile.xen
    fields = {
        "magic": f"xen-{major}.{minor}-x86_64".encode().ljust(32, b"\0"),
        "nr_pages": domain.tot_pages,
        "shared_info": domain.shared_info << 12,
        "store_mfn": p2m[_STORE_PFN],
        "store_evtchn": 1,
        "console.domU.mfn": p2m[_CONSOLE_PFN],
        "console.domU.evtchn": 2,
        "pt_base": _KERNEL,
        "nr_pt_frames": 5,
        "mfn_list": P2M_VADDR,
        "cmd_line": b"console=hvc0".ljust(1024, b"\0"),
    }
    memory = xen.machine.memory
    memory.write(p2m[START_INFO_PFN], 0, xen.layout(x86.START_INFO_STRUCT).pack(fields))
    ring = {"out": _GREETING.ljust(2048, b"\0"), "out_prod": len(_GREETING)}
    memory.write(p2m[_CONSOLE_PFN], 0, xen.layout(console.RING_STRUCT).pack(ring))


def _context(xen: Host, root: int, index: int) -> bytes:
    """The registers of a kernel that idles in its hypercall page."""
    fields = {
        "flags": int(ContextFlag.IN_KERNEL | ContextFlag.I387_VALID),
        "user_regs.rip": _KERNEL + 0x3AA,
        "user_regs.rsp": 0xFFFF_FFFF_8260_3E90 + 0x1_0000 * index,
        "user_regs.rax": 0,
        "user_regs.rcx": _KERNEL + 0x3AA,
        "user_regs.rdi": index,
        "user_regs.r11": 0x246,
        "user_regs.rflags": 0x246,
        "user_regs.cs": 0xE033,
        "user_regs.ss": 0xE02B,
        "kernel_ss": 0xE02B,
        "kernel_sp": 0xFFFF_FFFF_8260_4000 + 0x1_0000 * index,
        "ctrlreg": (CR0, 0, 0, root << 12, CR4, 0, 0, 0),
        "debugreg": (0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400),
        "event_callback_eip": _KERNEL + 0x1000,
        "failsafe_callback_eip": _KERNEL + 0x1100,
        "syscall_callback_eip": _KERNEL + 0x1200,
        "gs_base_kernel": 0xFFFF_8880_0420_0000 + 0x2_0000 * index,
    }
    return xen.layout(x86.VCPU_GUEST_CONTEXT_STRUCT).pack(fields)
