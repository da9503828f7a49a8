# SPDX-License-Identifier: MIT
"""Structures of PowerPC guests (public/arch-powerpc.h, 2006 to 2008): big-endian, of the same width for
all."""

from __future__ import annotations

from pyxc.abi.layout import U32, U64, Row, Table, nested, pad

CPU_USER_REGS_STRUCT = Table(
    "cpu_user_regs", "xen",
    Row("gprs",         U64, 32),
    Row("lr",           U64),
    Row("ctr",          U64),
    Row("srr0",         U64),
    Row("srr1",         U64),
    Row("pc",           U64),
    Row("msr",          U64),
    Row("fpscr",        U64),
    Row("xer",          U64),
    Row("hid4",         U64),
    Row("dar",          U64, start=(3, 1)),
    Row("dsisr",        U32, start=(3, 1)),
    Row("cr",           U32),
    pad(4, start=(3, 1)),
    Row("entry_vector", U32),
)  # fmt: skip
"""336 bytes; 352 from 2007-01-20, between Xen 3.0.4 and 3.1."""

VCPU_GUEST_CONTEXT_STRUCT = Table(
    "vcpu_guest_context", "xen",
    *nested("user_regs", CPU_USER_REGS_STRUCT),
    Row("sdr1", U64),
)  # fmt: skip
