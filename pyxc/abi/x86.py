# SPDX-License-Identifier: MIT
"""Structures of x86 guests (public/arch-x86/*.h, public/xen.h): registers, shared pages, page tables.

They follow the width of the guest: tables are of a 64-bit one, *_32_STRUCT of a 32-bit one.
"""

from __future__ import annotations

from pyxc.abi.layout import U32, Row, Table

ARCH_DOMAINCONFIG_STRUCT = Table(
    "xen_arch_domainconfig", "domctl",
    Row("emulation_flags", U32),
    Row("misc_flags",      U32, start=0x13),
)  # fmt: skip
