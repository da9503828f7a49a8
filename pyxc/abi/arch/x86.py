# SPDX-License-Identifier: MIT
"""Structures of x86 guests (public/xen.h, public/arch-x86/*.h): registers, shared pages, page tables.

They depend on the width of the guest: a table is for a 64-bit guest, *_32_STRUCT for a 32-bit one.
"""

from __future__ import annotations

from typing import Final

from pyxc.abi.flags import Flags
from pyxc.abi.layout import S8, U8, U16, U32, U64, Row, Table, nested, pad

VCPU_INFOS: Final = 32
"""The number of vcpus whose vcpu_info is in shared_info (XEN_LEGACY_MAX_VCPUS)."""


class ContextFlag(Flags):
    """vcpu_guest_context.flags (VGCF_*)."""

    I387_VALID = 1 << 0
    IN_KERNEL = 1 << 2
    FAILSAFE_DISABLES_EVENTS = 1 << 3
    SYSCALL_DISABLES_EVENTS = 1 << 4
    ONLINE = 1 << 5
    IN_SYSCALL = 1 << 8


class StartFlag(Flags):
    """start_info.flags (SIF_*); bits 8 to 15 are power management options."""

    PRIVILEGED = 1 << 0
    INITDOMAIN = 1 << 1
    MULTIBOOT_MOD = 1 << 2
    MOD_START_PFN = 1 << 3
    VIRT_P2M_4TOOLS = 1 << 4


# An entry of any level of page tables, as the processor defines it.
PTE_PRESENT: Final = 1 << 0
PTE_WRITABLE: Final = 1 << 1
PTE_USER: Final = 1 << 2
PTE_ACCESSED: Final = 1 << 5
PTE_DIRTY: Final = 1 << 6
PTE_PSE: Final = 1 << 7
"""The entry maps a large page; in a lowest-level entry this bit means something else (PAT)."""
PTE_GLOBAL: Final = 1 << 8
PTE_NX: Final = 1 << 63
PTE_FRAME_MASK: Final = 0x000F_FFFF_FFFF_F000
"""The bits of the frame: frame << 12."""
PTE32_FRAME_MASK: Final = 0xFFFF_F000
"""The same of an entry of 32 bits."""

# How a processor translates addresses (control registers, and the MSR EFER).
CR0_PG: Final = 1 << 31
CR4_PSE: Final = 1 << 4
CR4_PAE: Final = 1 << 5
CR4_LA57: Final = 1 << 12
EFER_LMA: Final = 1 << 10
EFER_NXE: Final = 1 << 11

EFLAGS_TF: Final = 1 << 8
"""The processor raises #DB after each instruction."""


def frame_of_cr3_32(cr3: int) -> int:
    """The frame of the top page table of a 32-bit guest: its upper bits are the lowest of cr3."""
    return (cr3 >> 12 | cr3 << 20) & 0xFFFF_FFFF


def cr3_32_of(frame: int) -> int:
    """The reverse."""
    return (frame << 12 | frame >> 20) & 0xFFFF_FFFF


CPU_USER_REGS_STRUCT = Table(
    "cpu_user_regs", "xen",
    Row("r15",               U64),
    Row("r14",               U64),
    Row("r13",               U64),
    Row("r12",               U64),
    Row("rbp",               U64),
    Row("rbx",               U64),
    Row("r11",               U64),
    Row("r10",               U64),
    Row("r9",                U64),
    Row("r8",                U64),
    Row("rax",               U64),
    Row("rcx",               U64),
    Row("rdx",               U64),
    Row("rsi",               U64),
    Row("rdi",               U64),
    Row("error_code",        U32),
    Row("entry_vector",      U32),
    Row("rip",               U64),
    Row("cs",                U16),
    pad(2),
    Row("saved_upcall_mask", U8),
    pad(3),
    Row("rflags",            U64),
    Row("rsp",               U64),
    Row("ss",                U16),
    pad(6),
    Row("es",                U16),
    pad(6),
    Row("ds",                U16),
    pad(6),
    Row("fs",                U16),
    pad(6),
    Row("gs",                U16),
    pad(6),
)  # fmt: skip

CPU_USER_REGS_32_STRUCT = Table(
    "cpu_user_regs", "xen",
    Row("ebx",               U32),
    Row("ecx",               U32),
    Row("edx",               U32),
    Row("esi",               U32),
    Row("edi",               U32),
    Row("ebp",               U32),
    Row("eax",               U32),
    Row("error_code",        U16),
    Row("entry_vector",      U16),
    Row("eip",               U32),
    Row("cs",                U16),
    Row("saved_upcall_mask", U8),
    pad(1),
    Row("eflags",            U32),
    Row("esp",               U32),
    Row("ss",                U16),
    pad(2),
    Row("es",                U16),
    pad(2),
    Row("ds",                U16),
    pad(2),
    Row("fs",                U16),
    pad(2),
    Row("gs",                U16),
    pad(2),
)  # fmt: skip

VCPU_GUEST_CONTEXT_STRUCT = Table(
    "vcpu_guest_context", "xen",
    Row("fpu_ctxt",              U8, 512),
    Row("flags",                 U64),
    *nested("user_regs", CPU_USER_REGS_STRUCT),
    Row("trap_ctxt",             U8, 256 * 16),
    Row("ldt_base",              U64),
    Row("ldt_ents",              U64),
    Row("gdt_frames",            U64, 16),
    Row("gdt_ents",              U64),
    Row("kernel_ss",             U64),
    Row("kernel_sp",             U64),
    Row("ctrlreg",               U64, 8),
    Row("debugreg",              U64, 8),
    Row("event_callback_eip",    U64),
    Row("failsafe_callback_eip", U64),
    Row("syscall_callback_eip",  U64),
    Row("vm_assist",             U64),
    Row("fs_base",               U64),
    Row("gs_base_kernel",        U64),
    Row("gs_base_user",          U64),
)  # fmt: skip

VCPU_GUEST_CONTEXT_32_STRUCT = Table(
    "vcpu_guest_context", "xen",
    Row("fpu_ctxt",              U8, 512),
    Row("flags",                 U32),
    *nested("user_regs", CPU_USER_REGS_32_STRUCT),
    Row("trap_ctxt",             U8, 256 * 8),
    Row("ldt_base",              U32),
    Row("ldt_ents",              U32),
    Row("gdt_frames",            U32, 16),
    Row("gdt_ents",              U32),
    Row("kernel_ss",             U32),
    Row("kernel_sp",             U32),
    Row("ctrlreg",               U32, 8),
    Row("debugreg",              U32, 8),
    Row("event_callback_cs",     U32),
    Row("event_callback_eip",    U32),
    Row("failsafe_callback_cs",  U32),
    Row("failsafe_callback_eip", U32),
    Row("vm_assist",             U32),
)  # fmt: skip

_TIME = (
    Row("time.version",           U32),
    pad(4),
    Row("time.tsc_timestamp",     U64),
    Row("time.system_time",       U64),
    Row("time.tsc_to_system_mul", U32),
    Row("time.tsc_shift",         S8),
    Row("time.flags",             U8, start=(4, 7)),
    pad(1, stop=(4, 7)),
    pad(2),
)  # fmt: skip

VCPU_INFO_STRUCT = Table(
    "vcpu_info", "xen",
    Row("evtchn_upcall_pending", U8),
    Row("evtchn_upcall_mask",    U8),
    pad(6),
    Row("evtchn_pending_sel",    U64),
    Row("arch.cr2",              U64),
    pad(8),
    *_TIME,
)  # fmt: skip

VCPU_INFO_32_STRUCT = Table(
    "vcpu_info", "xen",
    Row("evtchn_upcall_pending", U8),
    Row("evtchn_upcall_mask",    U8),
    pad(2),
    Row("evtchn_pending_sel",    U32),
    Row("arch.cr2",              U32),
    pad(20),
    *_TIME,
)  # fmt: skip

ARCH_SHARED_INFO_STRUCT = Table(
    "arch_shared_info", "xen",
    Row("max_pfn",                    U64),
    Row("pfn_to_mfn_frame_list_list", U64),
    Row("nmi_reason",                 U64),
    Row("p2m_cr3",                    U64, start=(4, 6)),
    Row("p2m_vaddr",                  U64, start=(4, 6)),
    Row("p2m_generation",             U64, start=(4, 6)),
    pad(256, stop=(4, 6)),
)  # fmt: skip

ARCH_SHARED_INFO_32_STRUCT = Table(
    "arch_shared_info", "xen",
    Row("max_pfn",                    U32),
    Row("pfn_to_mfn_frame_list_list", U32),
    Row("nmi_reason",                 U32),
    Row("p2m_cr3",                    U32, start=(4, 6)),
    Row("p2m_vaddr",                  U32, start=(4, 6)),
    Row("p2m_generation",             U32, start=(4, 6)),
    Row("wc_sec_hi",                  U32, start=(4, 6)),
    pad(256, stop=(4, 6)),
)  # fmt: skip

SHARED_INFO_STRUCT = Table(
    "shared_info", "xen",
    Row("vcpu_info",      U8, VCPU_INFOS * 64),
    Row("evtchn_pending", U64, 64),
    Row("evtchn_mask",    U64, 64),
    Row("wc_version",     U32),
    Row("wc_sec",         U32),
    Row("wc_nsec",        U32),
    Row("wc_sec_hi",      U32, start=(4, 6)),
    pad(4, stop=(4, 6)),
    *nested("arch", ARCH_SHARED_INFO_STRUCT),
)  # fmt: skip

SHARED_INFO_32_STRUCT = Table(
    "shared_info", "xen",
    Row("vcpu_info",      U8, VCPU_INFOS * 64),
    Row("evtchn_pending", U32, 32),
    Row("evtchn_mask",    U32, 32),
    Row("wc_version",     U32),
    Row("wc_sec",         U32),
    Row("wc_nsec",        U32),
    *nested("arch", ARCH_SHARED_INFO_32_STRUCT),
)  # fmt: skip

START_INFO_STRUCT = Table(
    "start_info", "xen",
    Row("magic",               U8, 32),
    Row("nr_pages",            U64),
    Row("shared_info",         U64),
    Row("flags",               U32),
    pad(4),
    Row("store_mfn",           U64),
    Row("store_evtchn",        U32),
    pad(4),
    Row("console.domU.mfn",    U64),
    Row("console.domU.evtchn", U32),
    pad(4),
    Row("pt_base",             U64),
    Row("nr_pt_frames",        U64),
    Row("mfn_list",            U64),
    Row("mod_start",           U64),
    Row("mod_len",             U64),
    Row("cmd_line",            U8, 1024),
    Row("first_p2m_pfn",       U64, start=(3, 4)),
    Row("nr_p2m_frames",       U64, start=(3, 4)),
)  # fmt: skip

START_INFO_32_STRUCT = Table(
    "start_info", "xen",
    Row("magic",               U8, 32),
    Row("nr_pages",            U32),
    Row("shared_info",         U32),
    Row("flags",               U32),
    Row("store_mfn",           U32),
    Row("store_evtchn",        U32),
    Row("console.domU.mfn",    U32),
    Row("console.domU.evtchn", U32),
    Row("pt_base",             U32),
    Row("nr_pt_frames",        U32),
    Row("mfn_list",            U32),
    Row("mod_start",           U32),
    Row("mod_len",             U32),
    Row("cmd_line",            U8, 1024),
    Row("first_p2m_pfn",       U32, start=(3, 4)),
    Row("nr_p2m_frames",       U32, start=(3, 4)),
)  # fmt: skip
