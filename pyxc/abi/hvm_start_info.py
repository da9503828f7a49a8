# SPDX-License-Identifier: MIT
"""What a PVH guest finds in memory when it starts (public/arch-x86/hvm/start_info.h)."""

from __future__ import annotations

from typing import Final

from pyxc.abi.layout import U32, U64, Row, Table, pad

MAGIC: Final = 0x336EC578

START_INFO_STRUCT = Table(
    "hvm_start_info", "xen",
    Row("magic",          U32),
    Row("version",        U32),
    Row("flags",          U32),
    Row("nr_modules",     U32),
    Row("modlist_paddr",  U64),
    Row("cmdline_paddr",  U64),
    Row("rsdp_paddr",     U64),
    Row("memmap_paddr",   U64),
    Row("memmap_entries", U32),
    pad(4),
)  # fmt: skip

MODULE_STRUCT = Table(
    "hvm_modlist_entry", "xen",
    Row("paddr",         U64),
    Row("size",          U64),
    Row("cmdline_paddr", U64),
    pad(8),
)  # fmt: skip

MEMORY_STRUCT = Table(
    "hvm_memmap_table_entry", "xen",
    Row("addr", U64),
    Row("size", U64),
    Row("type", U32),
    pad(4),
)  # fmt: skip
"""A part of the guest's address space; its type is a memory.MemoryType."""
