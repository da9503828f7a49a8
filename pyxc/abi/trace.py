# SPDX-License-Identifier: MIT
"""sysctl tbuf_op (public/sysctl.h), and what is in Xen's trace buffers (public/trace.h)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from pyxc.abi.domctl import BITMAP_STRUCT
from pyxc.abi.layout import U16, U32, U64, Row, Table, nested, pad
from pyxc.abi.operation import SYSCTL, Operation


class TbufOp(IntEnum):
    """tbuf_op.cmd (XEN_SYSCTL_TBUFOP_*)."""

    GET_INFO = 0
    SET_CPU_MASK = 1
    SET_EVT_MASK = 2
    SET_SIZE = 3
    ENABLE = 4
    DISABLE = 5


# `op` is the header's `cmd`: the envelope has one of that name.
TBUF_OP_STRUCT = Table(
    "xen_sysctl_tbuf_op", "sysctl",
    Row("op",         U32),
    pad(4),
    *nested("cpu_mask", BITMAP_STRUCT),
    Row("evt_mask",   U32),
    pad(4),
    Row("buffer_mfn", U64),
    Row("size",       U32),
    pad(4),
)  # fmt: skip


def _tbuf_op(op: TbufOp, changes: bool = True) -> Operation:
    name = f"tbuf_op_{op.name.lower()}"
    return Operation(SYSCTL, name, 2, TBUF_OP_STRUCT, changes=changes, fixed={"op": op})


TBUF_OP_GET_INFO = _tbuf_op(TbufOp.GET_INFO, changes=False)
TBUF_OP_SET_CPU_MASK = _tbuf_op(TbufOp.SET_CPU_MASK)
TBUF_OP_SET_EVT_MASK = _tbuf_op(TbufOp.SET_EVT_MASK)
TBUF_OP_SET_SIZE = _tbuf_op(TbufOp.SET_SIZE)
TBUF_OP_ENABLE = _tbuf_op(TbufOp.ENABLE)
TBUF_OP_DISABLE = _tbuf_op(TbufOp.DISABLE)


class TraceClass(IntFlag):
    """Kinds of events, as event masks (TRC_GEN and so on); what Xen writes is what the mask has."""

    GEN = 0x0001F000
    SCHED = 0x0002F000
    SCHED_MIN = 0x00021000
    """Changes of runstates alone."""
    DOM0OP = 0x0004F000
    HVM = 0x0008F000
    MEM = 0x0010F000
    PV = 0x0020F000
    SHADOW = 0x0040F000
    HW = 0x0080F000
    GUEST = 0x0800F000
    ALL = 0x0FFFF000


class Runstate(IntEnum):
    """What a vcpu does (RUNSTATE_*, public/vcpu.h). RUNNABLE waits for a physical cpu: that is steal."""

    RUNNING = 0
    RUNNABLE = 1
    BLOCKED = 2
    OFFLINE = 3


TRC_CLS_SHIFT: Final = 16
TRACE_EXTRA_SHIFT: Final = 28
TRACE_EXTRA_MAX: Final = 7
TRC_HD_CYCLE_FLAG: Final = 1 << 31
"""Of the first word of a record (struct t_rec): whether the time follows, in two words."""

TRC_LOST_RECORDS: Final = 0x0001F001
"""How many, in the first word; whose vcpu, and the time of the first, in the others."""
TRC_TRACE_WRAP_BUFFER: Final = 0x0001F002
"""It fills the end of a buffer."""
TRC_TRACE_CPU_CHANGE: Final = 0x0001F003
"""In files: a cpu, and how many bytes of its records follow."""
TRC_SCHED_RUNSTATE_CHANGE: Final = 0x00021001
TRC_SCHED_CONTINUE_RUNNING: Final = 0x00021002
TRC_64_FLAG: Final = 0x100
TRC_HVM_NESTEDFLAG: Final = 0x400

T_BUF_STRUCT = Table("t_buf", "xen", Row("cons", U32), Row("prod", U32))
"""The head of a buffer. Both count modulo twice the size of what follows, which is records."""
T_INFO_STRUCT = Table("t_info", "xen", Row("tbuf_size", U16))
"""Pages of each buffer; then for each cpu, as u16, at which u32 of these pages its list of frames begins."""

_EVENT = 0x0FFFFFFF
_SUBCLASS_AT = 12
_OLD_AT, _NEW_AT, _STATES = 8, 4, 3
_STATE_BITS = _STATES << _OLD_AT | _STATES << _NEW_AT


def runstates(event: int) -> tuple[Runstate, Runstate] | None:
    """The old and the new state of a vcpu whose runstate changes; None for another event."""
    if event & ~_STATE_BITS != TRC_SCHED_RUNSTATE_CHANGE:
        return None
    return Runstate(event >> _OLD_AT & _STATES), Runstate(event >> _NEW_AT & _STATES)


_NAMES = {
    0x0001F000: "- lost_records wrap_buffer cpu_change",
    0x00021000: "- runstate_change continue_running",
    0x00028000: (
        "- dom_add dom_rem sleep wake yield block shutdown ctl adjdom switch s_timer_fn t_timer_fn"
        " dom_timer_fn switch_infprev switch_infnext shutdown_code switch_infcont"
    ),
    0x00041000: "- dom_add dom_rem",
    0x0010F000: "- page_grant_map page_grant_unmap page_grant_transfer set_p2m_entry decrease_reservation",
    0x0010F010: "pod_populate pod_zero_reclaim pod_superpage_splinter",
    0x00201000: (
        "- hypercall - trap page_fault forced_invalid_op emulate_privop emulate_4gb math_state_restore"
        " paging_fixup gdt_ldt_mapping_fault ptwr_emulation ptwr_emulation_pae hypercall_v2"
    ),
    0x0020200E: "hypercall_subcall",
    0x0040F000: (
        "- not_shadow fast_propagate fast_mmio false_fast_path mmio fixup domf_dying emulate"
        " emulate_unshadow_user emulate_unshadow_evtinj emulate_unshadow_unhandled wrmap_bf prealloc_unpin"
        " resync_full resync_only"
    ),
    0x00081000: "- vmentry vmx_exit svm_exit",
    0x00082000: (
        "- pf_xen pf_inject inj_exc inj_virq reinj_virq io_read io_write cr_read cr_write dr_read dr_write"
        " msr_read msr_write cpuid intr nmi smi vmmcall hlt invlpg mce ioport_read iomem_read clts lmsw rdtsc"
        " - - - - - intr_window npf realmode_emulate trap trap_debug vlapic xcr_read xcr_write"
    ),
    0x00082216: "ioport_write iomem_write",
    0x00084000: (
        "- hpet_start_timer pit_start_timer rtc_start_timer lapic_start_timer hpet_stop_timer"
        " pit_stop_timer rtc_stop_timer lapic_stop_timer pit_timer_cb lapic_timer_cb pic_int_output"
        " pic_kick pic_intack pic_posedge pic_negedge pic_pend_irq_call lapic_pic_intr"
    ),
    0x00801000: "- freq_change idle_entry idle_exit",
    0x00802000: (
        "- move_cleanup_delay move_cleanup bind_vector clear_vector move_finish assign_vector unmapped_vector"
        " handled"
    ),
}
"""Names of events, from a number on; "-" is no event."""

_CLASSES = {
    0x001: "gen", 0x002: "sched", 0x004: "dom0op", 0x008: "hvm", 0x010: "mem", 0x020: "pv", 0x040: "shadow",
    0x080: "hw", 0x800: "guest",
}  # fmt: skip


def _numbered() -> dict[int, str]:
    return {
        first + index: f"{_CLASSES[first >> TRC_CLS_SHIFT]}.{name}"
        for first, names in _NAMES.items()
        for index, name in enumerate(names.split())
        if name != "-"
    }


EVENTS: Final = _numbered()
"""Every event that has a name, by its number."""


def event_name(event: int) -> str:
    """What an event is called, "sched.runstate_change"; its class and number where it has no name."""
    event &= _EVENT
    without = TRC_64_FLAG | TRC_HVM_NESTEDFLAG if event >> TRC_CLS_SHIFT == 0x008 else TRC_64_FLAG
    if event >> _SUBCLASS_AT == TraceClass.SCHED_MIN >> _SUBCLASS_AT:
        without = _STATE_BITS
    name = EVENTS.get(event) or EVENTS.get(event & ~without)
    return name or f"{_CLASSES.get(event >> TRC_CLS_SHIFT, 'unknown')}.{event:#010x}"
