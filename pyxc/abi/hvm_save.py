# SPDX-License-Identifier: MIT
"""The stream of records that is an HVM context (public/hvm/save.h, public/arch-x86/hvm/save.h)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.layout import U16, U32, U64, Row, Table, pad


class HvmRecordType(IntEnum):
    """Which part of the hardware a record is about (HVM_SAVE_CODE)."""

    END = 0
    HEADER = 1
    CPU = 2
    PIC = 3
    IOAPIC = 4
    LAPIC = 5
    LAPIC_REGS = 6
    PCI_IRQ = 7
    ISA_IRQ = 8
    PCI_LINK = 9
    PIT = 10
    RTC = 11
    HPET = 12
    PMTIMER = 13
    MTRR = 14
    VIRIDIAN_DOMAIN = 15
    """Since 3.4, VIRIDIAN to 4.1."""
    CPU_XSAVE = 16
    VIRIDIAN_VCPU = 17
    VMCE_VCPU = 18
    TSC_ADJUST = 19
    CPU_MSR = 20


HVM_FILE_MAGIC: Final = 0x54381286
"""`magic` of the HEADER record."""

DESCRIPTOR_STRUCT = Table(
    "hvm_save_descriptor", "xen",
    Row("typecode", U16),
    Row("instance", U16),
    Row("length",   U32),
)  # fmt: skip
"""Stands before the `length` bytes of each record."""

HEADER_STRUCT = Table(
    "hvm_save_header", "xen",
    Row("magic",     U32),
    Row("version",   U32),
    Row("changeset", U64),
    Row("cpuid",     U32),
    Row("gtsc_khz",  U32, start=(4, 0)),
    pad(4, stop=(4, 0)),
)  # fmt: skip
