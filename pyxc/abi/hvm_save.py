# SPDX-License-Identifier: MIT
"""The stream of records that is an HVM context (public/hvm/save.h, public/arch-x86/hvm/save.h)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.layout import U8, U16, U32, U64, Row, Table, pad


class HvmRecordType(IntEnum):
    """The part of the hardware that a record describes (HVM_SAVE_CODE)."""

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
"""The head before the `length` bytes of each record."""

HEADER_STRUCT = Table(
    "hvm_save_header", "xen",
    Row("magic",     U32),
    Row("version",   U32),
    Row("changeset", U64),
    Row("cpuid",     U32),
    Row("gtsc_khz",  U32, start=(4, 0)),
    pad(4, stop=(4, 0)),
)  # fmt: skip

CPU_STRUCT = Table(
    "hvm_hw_cpu", "xen",
    Row("fpu_regs",            U8, 512),
    Row("rax",                 U64),
    Row("rbx",                 U64),
    Row("rcx",                 U64),
    Row("rdx",                 U64),
    Row("rbp",                 U64),
    Row("rsi",                 U64),
    Row("rdi",                 U64),
    Row("rsp",                 U64),
    Row("r8",                  U64),
    Row("r9",                  U64),
    Row("r10",                 U64),
    Row("r11",                 U64),
    Row("r12",                 U64),
    Row("r13",                 U64),
    Row("r14",                 U64),
    Row("r15",                 U64),
    Row("rip",                 U64),
    Row("rflags",              U64),
    Row("cr0",                 U64),
    Row("cr2",                 U64),
    Row("cr3",                 U64),
    Row("cr4",                 U64),
    Row("dr0",                 U64),
    Row("dr1",                 U64),
    Row("dr2",                 U64),
    Row("dr3",                 U64),
    Row("dr6",                 U64),
    Row("dr7",                 U64),
    Row("cs_sel",              U32),
    Row("ds_sel",              U32),
    Row("es_sel",              U32),
    Row("fs_sel",              U32),
    Row("gs_sel",              U32),
    Row("ss_sel",              U32),
    Row("tr_sel",              U32),
    Row("ldtr_sel",            U32),
    Row("cs_limit",            U32),
    Row("ds_limit",            U32),
    Row("es_limit",            U32),
    Row("fs_limit",            U32),
    Row("gs_limit",            U32),
    Row("ss_limit",            U32),
    Row("tr_limit",            U32),
    Row("ldtr_limit",          U32),
    Row("idtr_limit",          U32),
    Row("gdtr_limit",          U32),
    Row("cs_base",             U64),
    Row("ds_base",             U64),
    Row("es_base",             U64),
    Row("fs_base",             U64),
    Row("gs_base",             U64),
    Row("ss_base",             U64),
    Row("tr_base",             U64),
    Row("ldtr_base",           U64),
    Row("idtr_base",           U64),
    Row("gdtr_base",           U64),
    Row("cs_arbytes",          U32),
    Row("ds_arbytes",          U32),
    Row("es_arbytes",          U32),
    Row("fs_arbytes",          U32),
    Row("gs_arbytes",          U32),
    Row("ss_arbytes",          U32),
    Row("tr_arbytes",          U32),
    Row("ldtr_arbytes",        U32),
    Row("sysenter_cs",         U64),
    Row("sysenter_esp",        U64),
    Row("sysenter_eip",        U64),
    Row("shadow_gs",           U64),
    Row("msr_flags",           U64),
    Row("msr_lstar",           U64),
    Row("msr_star",            U64),
    Row("msr_cstar",           U64),
    Row("msr_syscall_mask",    U64),
    Row("msr_efer",            U64),
    Row("msr_tsc_aux",         U64),
    Row("tsc",                 U64),
    Row("pending_event",       U32),
    Row("error_code",          U32),
    Row("flags",               U32),
    pad(4),
    start=(4, 10),
)  # fmt: skip
"""A CPU record: the registers of a vcpu, and the processor's cached segments."""

MTRR_STRUCT = Table(
    "hvm_hw_mtrr", "xen",
    Row("msr_pat_cr",        U64),
    Row("msr_mtrr_var",      U64, 16),
    Row("msr_mtrr_fixed",    U64, 11),
    Row("msr_mtrr_cap",      U64),
    Row("msr_mtrr_def_type", U64),
)  # fmt: skip
"""An MTRR record: the memory types of a vcpu."""
