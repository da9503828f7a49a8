# SPDX-License-Identifier: MIT
"""The inside of a PVH guest: page tables as Linux has them, and the registers of a kernel at work."""

from __future__ import annotations

from pyxc.abi import hvm_save
from pyxc.abi.arch import x86
from pyxc.abi.arch.x86 import ContextFlag
from pyxc.abi.hvm_save import HvmRecordType
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host
from pyxc.sim.model.machine import WORDS_PER_PAGE

_KERNEL = 0xFFFF_FFFF_8100_0000
_TEXT_MAP, _DIRECT_MAP = 0xFFFF_FFFF_8000_0000, 0xFFFF_8880_0000_0000
"""Where Linux maps its own image, and all memory."""
_L4, _L3_TEXT, _L2_TEXT, _L3_DIRECT = range(0x240A, 0x240E)
_TABLE_BITS = 0x67
_LARGE_BITS = 0xE7
_TEXT_PAGES = 64
"""Of 2 MiB: the image and what follows, the whole memory of the guest."""
_CR0, _CR4, _EFER = 0x80050033, 0x6B0, 0xD01


def furnish(xen: Host, domain: Domain) -> None:
    """Give a translated guest page tables and registers. What Xen saves of its cpu agrees with the latter."""
    _write_tables(xen, domain)
    registers = {"rip": _KERNEL + 0x42C0, "rsp": 0xFFFF_C900_0001_3EE0, "rflags": 0x202}
    domain.live_vcpus[0].context = xen.layout(x86.VCPU_GUEST_CONTEXT_STRUCT).pack(
        {
            "flags": int(ContextFlag.I387_VALID),
            **{f"user_regs.{name}": value for name, value in registers.items()},
            "user_regs.cs": 0x10,
            "user_regs.ss": 0x18,
            "ctrlreg": (_CR0, 0, 0, _L4 << 12, _CR4, 0, 0, 0),
            "debugreg": (0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400),
        }
    )
    if xen.profile.since(4, 10):
        cpu = {"cs_sel": 0x10, "ss_sel": 0x18, "cr0": _CR0, "cr3": _L4 << 12, "cr4": _CR4, "msr_efer": _EFER}
        cpu |= {"dr6": 0xFFFF0FF0, "dr7": 0x400, **registers}
        domain.hvm_records[HvmRecordType.CPU, 0] = xen.layout(hvm_save.CPU_STRUCT).pack(cpu)


def _write_tables(xen: Host, domain: Domain) -> None:
    """The image in pages of 2 MiB, all memory in a page of 1 GiB."""
    text = {page: page << 21 | _LARGE_BITS for page in range(_TEXT_PAGES)}
    tables = {
        _L4: {_index(_TEXT_MAP, 39): _entry(_L3_TEXT), _index(_DIRECT_MAP, 39): _entry(_L3_DIRECT)},
        _L3_TEXT: {_index(_TEXT_MAP, 30): _entry(_L2_TEXT)},
        _L2_TEXT: text,
        _L3_DIRECT: {0: _LARGE_BITS},
    }
    for gfn, entries in tables.items():
        words = [entries.get(place, 0) for place in range(WORDS_PER_PAGE)]
        xen.machine.memory.write(domain.p2m[gfn], 0, xen.machine.words.pack(words))


def _index(address: int, shift: int) -> int:
    return address >> shift & (WORDS_PER_PAGE - 1)


def _entry(gfn: int) -> int:
    return gfn << 12 | _TABLE_BITS
