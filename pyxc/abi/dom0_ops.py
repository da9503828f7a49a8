# SPDX-License-Identifier: MIT
"""dom0_op (public/dom0_ops.h, sched_ctl.h): the toolstack's hypercall of Xen 3.0, before domctl and sysctl.

Bounds are dom0_op interface numbers: 0x03000000 from December 2005, 0x03000001 from 2006-06-06, 0x13000001
for the last days before 2006-08-25. The layouts are those of a 64-bit Xen: fixed 64-bit fields, aligned to 8.
A domain is `domid` here as in domctl, except in getdomaininfo, whose structure is a record of the list too.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.layout import BOOL, HANDLE, S32, S64, U8, U16, U32, U64, Row, Table, pad
from pyxc.abi.operation import DOM0_OP, Listing, Operation

_SHADOW: Final = 0x13000001
"""The number that came with new shadow page tables; what was unversioned before it changed with it too."""


class Direction(IntEnum):
    """sched_ctl_cmd.direction, sched_adjdom_cmd.direction (SCHED_INFO_*)."""

    PUT = 0
    GET = 1


class Scheduler(IntEnum):
    """sched_id (SCHED_*)."""

    BVT = 0
    SEDF = 4
    CREDIT = 5
    """Since 2006-05-26."""


class ShadowOp(IntEnum):
    """shadow_control.op (DOM0_SHADOW_CONTROL_OP_*)."""

    OFF = 0
    ENABLE_TEST = 1
    ENABLE_LOGDIRTY = 2
    ENABLE_TRANSLATE = 3
    FLUSH = 10
    CLEAN = 11
    PEEK = 12


class PerfcOp(IntEnum):
    """perfccontrol.op (DOM0_PERFCCONTROL_OP_*)."""

    RESET = 1
    QUERY = 2


_DOMAIN: Final = (Row("domid", U16),)
_VCPU: Final = (*_DOMAIN, pad(2), Row("vcpu", U32))

GETMEMLIST_STRUCT = Table(
    "dom0_getmemlist", "dom0_op",
    *_DOMAIN,
    pad(6),
    Row("max_pfns", U64),
    Row("buffer",   HANDLE),
    Row("num_pfns", U64),
)  # fmt: skip

GETMEMLIST2_STRUCT = Table(
    "dom0_getmemlist2", "dom0_op",
    *_DOMAIN,
    pad(6),
    Row("max_pfns",  U64),
    Row("start_pfn", U64),
    Row("buffer",    HANDLE),
    Row("num_pfns",  U64),
)  # fmt: skip
"""Proposed on xen-devel on 2006-04-14 and never merged: this definition of it is pyxc's own.

`start_pfn` counts entries of the list, not pfns; `num_pfns` comes back as the number of entries written, 0 at
or past the end; elements are u64. Refusals are those of getmemlist.
"""

SCHED_CTL_CMD_STRUCT = Table(
    "sched_ctl_cmd", "dom0_op",
    Row("sched_id",        U32),
    Row("direction",       U32),
    Row("u.bvt.ctx_allow", U32, stop=_SHADOW),
)  # fmt: skip

# Each scheduler has its own parameters in the same place.
_ADJDOM = (Row("sched_id", U32), Row("direction", U32), *_DOMAIN, pad(6))

SCHED_ADJDOM_BVT_STRUCT = Table(
    "sched_adjdom_cmd", "dom0_op",
    *_ADJDOM,
    Row("u.bvt.mcu_adv",   U32),
    Row("u.bvt.warpback",  U32),
    Row("u.bvt.warpvalue", S32),
    pad(4),
    Row("u.bvt.warpl",     S64),
    Row("u.bvt.warpu",     S64),
    stop=_SHADOW,
)  # fmt: skip

SCHED_ADJDOM_SEDF_STRUCT = Table(
    "sched_adjdom_cmd", "dom0_op",
    *_ADJDOM,
    Row("u.sedf.period",    U64),
    Row("u.sedf.slice",     U64),
    Row("u.sedf.latency",   U64),
    Row("u.sedf.extratime", U32),
    Row("u.sedf.weight",    U32),
)  # fmt: skip

SCHED_ADJDOM_CREDIT_STRUCT = Table(
    "sched_adjdom_cmd", "dom0_op",
    *_ADJDOM,
    Row("u.credit.weight", U16),
    Row("u.credit.cap",    U16),
    pad(28),
    start=0x03000001,
)  # fmt: skip

CREATEDOMAIN_STRUCT = Table(
    "dom0_createdomain", "dom0_op",
    Row("ssidref", U32),
    Row("handle",  U8, 16),
    *_DOMAIN,
    pad(2),
)  # fmt: skip

DESTROYDOMAIN_STRUCT = Table("dom0_destroydomain", "dom0_op", *_DOMAIN)

PAUSEDOMAIN_STRUCT = Table("dom0_pausedomain", "dom0_op", *_DOMAIN)

UNPAUSEDOMAIN_STRUCT = Table("dom0_unpausedomain", "dom0_op", *_DOMAIN)

GETDOMAININFO_STRUCT = Table(
    "dom0_getdomaininfo", "dom0_op",
    Row("domain",            U16),
    pad(2),
    Row("flags",             U32),
    Row("tot_pages",         U64),
    Row("max_pages",         U64),
    Row("shared_info_frame", U64),
    Row("cpu_time",          U64),
    Row("nr_online_vcpus",   U32),
    Row("max_vcpu_id",       U32),
    Row("ssidref",           U32),
    Row("handle",            U8, 16),
    pad(4),
)  # fmt: skip

SETVCPUCONTEXT_STRUCT = Table("dom0_setvcpucontext", "dom0_op", *_VCPU, Row("ctxt", HANDLE))

GETVCPUCONTEXT_STRUCT = Table("dom0_getvcpucontext", "dom0_op", *_VCPU, Row("ctxt", HANDLE))

MSR_STRUCT = Table(
    "dom0_msr", "dom0_op",
    Row("write",    U32),
    pad(4),
    Row("cpu_mask", U64),
    Row("msr",      U32),
    Row("in1",      U32),
    Row("in2",      U32),
    Row("out1",     U32),
    Row("out2",     U32),
    pad(4),
)  # fmt: skip

SETTIME_STRUCT = Table(
    "dom0_settime", "dom0_op",
    Row("secs",        U32),
    Row("nsecs",       U32),
    Row("system_time", U64),
)  # fmt: skip

GETPAGEFRAMEINFO_STRUCT = Table(
    "dom0_getpageframeinfo", "dom0_op",
    Row("mfn",  U64, stop=_SHADOW),
    Row("gmfn", U64, start=_SHADOW),
    *_DOMAIN,
    pad(2),
    Row("type", U32),
)  # fmt: skip

READCONSOLE_STRUCT = Table(
    "dom0_readconsole", "dom0_op",
    Row("clear",  U32),
    pad(4),
    Row("buffer", HANDLE),
    Row("count",  U32),
    pad(4),
)  # fmt: skip

SETVCPUAFFINITY_STRUCT = Table("dom0_setvcpuaffinity", "dom0_op", *_VCPU, Row("cpumap", U64))

TBUFCONTROL_STRUCT = Table(
    "dom0_tbufcontrol", "dom0_op",
    Row("op",         U32),
    pad(4),
    Row("cpu_mask",   U64),
    Row("evt_mask",   U32),
    pad(4),
    Row("buffer_mfn", U64),
    Row("size",       U32),
    pad(4),
)  # fmt: skip

PHYSINFO_STRUCT = Table(
    "dom0_physinfo", "dom0_op",
    Row("threads_per_core", U32),
    Row("cores_per_socket", U32),
    Row("sockets_per_node", U32),
    Row("nr_nodes",         U32),
    Row("cpu_khz",          U32),
    pad(4),
    Row("total_pages",      U64),
    Row("free_pages",       U64),
    Row("scrub_pages",      U64, start=_SHADOW),  # since 2006-06-27, when the number did not change
    Row("hw_cap",           U32, 8),
)  # fmt: skip

SCHED_ID_STRUCT = Table("dom0_sched_id", "dom0_op", Row("sched_id", U32))

SHADOW_CONTROL_STRUCT = Table(
    "dom0_shadow_control", "dom0_op",
    *_DOMAIN,
    pad(2),
    Row("op",                      U32),
    Row("mode",                    U32, start=_SHADOW),
    Row("mb",                      U32, start=_SHADOW),
    Row("dirty_bitmap",            HANDLE),
    Row("pages",                   U64),
    Row("stats.fault_count",       U32),
    Row("stats.dirty_count",       U32),
    Row("stats.dirty_net_count",   U32, stop=_SHADOW),
    Row("stats.dirty_block_count", U32, stop=_SHADOW),
)  # fmt: skip

SETDOMAINMAXMEM_STRUCT = Table(
    "dom0_setdomainmaxmem", "dom0_op",
    *_DOMAIN,
    pad(6),
    Row("max_memkb", U64),
)  # fmt: skip

GETPAGEFRAMEINFO2_STRUCT = Table(
    "dom0_getpageframeinfo2", "dom0_op",
    *_DOMAIN,
    pad(6),
    Row("num",   U64),
    Row("array", HANDLE),
)  # fmt: skip

ADD_MEMTYPE_STRUCT = Table(
    "dom0_add_memtype", "dom0_op",
    Row("mfn",     U64),
    Row("nr_mfns", U64),
    Row("type",    U32),
    Row("handle",  U32),
    Row("reg",     U32),
    pad(4),
)  # fmt: skip

DEL_MEMTYPE_STRUCT = Table(
    "dom0_del_memtype", "dom0_op",
    Row("handle", U32),
    Row("reg",    U32),
)  # fmt: skip

READ_MEMTYPE_STRUCT = Table(
    "dom0_read_memtype", "dom0_op",
    Row("reg",     U32),
    pad(4),
    Row("mfn",     U64),
    Row("nr_mfns", U64),
    Row("type",    U32),
    pad(4),
)  # fmt: skip

PERFC_DESC_STRUCT = Table(
    "dom0_perfc_desc", "dom0_op",
    Row("name",    U8, 80),
    Row("nr_vals", U32),
    Row("vals",    U32, 64, stop=_SHADOW),
)  # fmt: skip

PERFCCONTROL_STRUCT = Table(
    "dom0_perfccontrol", "dom0_op",
    Row("op",          U32),
    Row("nr_counters", U32),
    Row("nr_vals",     U32, start=_SHADOW),
    pad(4, start=_SHADOW),
    Row("desc",        HANDLE),
    Row("val",         HANDLE, start=_SHADOW),
)  # fmt: skip

MICROCODE_STRUCT = Table(
    "dom0_microcode", "dom0_op",
    Row("data",   HANDLE),
    Row("length", U32),
    pad(4),
)  # fmt: skip

IOPORT_PERMISSION_STRUCT = Table(
    "dom0_ioport_permission", "dom0_op",
    *_DOMAIN,
    pad(2),
    Row("first_port",   U32),
    Row("nr_ports",     U32),
    Row("allow_access", U8),
    pad(3),
)  # fmt: skip

GETDOMAININFOLIST_STRUCT = Table(
    "dom0_getdomaininfolist", "dom0_op",
    Row("first_domain", U16),
    pad(2),
    Row("max_domains",  U32),
    Row("buffer",       HANDLE),
    Row("num_domains",  U32),
    pad(4),
)  # fmt: skip

PLATFORM_QUIRK_STRUCT = Table("dom0_platform_quirk", "dom0_op", Row("quirk_id", U32))

MEMORY_MAP_ENTRY_STRUCT = Table(
    "dom0_memory_map_entry", "dom0_op",
    Row("start",  U64),
    Row("end",    U64),
    Row("flags",  U32),
    Row("is_ram", U8),
    pad(3),
)  # fmt: skip

PHYSICAL_MEMORY_MAP_STRUCT = Table(
    "dom0_physical_memory_map", "dom0_op",
    Row("max_map_entries", U32),
    Row("nr_map_entries",  U32),
    Row("memory_map",      HANDLE),
)  # fmt: skip

MAX_VCPUS_STRUCT = Table("dom0_max_vcpus", "dom0_op", *_DOMAIN, pad(2), Row("max", U32))

GETVCPUINFO_STRUCT = Table(
    "dom0_getvcpuinfo", "dom0_op",
    *_VCPU,
    Row("online",   BOOL),
    Row("blocked",  BOOL),
    Row("running",  BOOL),
    pad(5),
    Row("cpu_time", U64),
    Row("cpu",      U32),
    pad(4),
    Row("cpumap",   U64),
)  # fmt: skip

SETDOMAINHANDLE_STRUCT = Table("dom0_setdomainhandle", "dom0_op", *_DOMAIN, Row("handle", U8, 16))

SETDEBUGGING_STRUCT = Table("dom0_setdebugging", "dom0_op", *_DOMAIN, Row("enable", U8), pad(1))

IRQ_PERMISSION_STRUCT = Table(
    "dom0_irq_permission", "dom0_op",
    *_DOMAIN,
    Row("pirq",         U8),
    Row("allow_access", U8),
)  # fmt: skip

IOMEM_PERMISSION_STRUCT = Table(
    "dom0_iomem_permission", "dom0_op",
    *_DOMAIN,
    pad(6),
    Row("first_mfn",    U64),
    Row("nr_mfns",      U64),
    Row("allow_access", U8),
    pad(7),
)  # fmt: skip

HYPERCALL_INIT_STRUCT = Table(
    "dom0_hypercall_init", "dom0_op",
    *_DOMAIN,
    pad(6),
    Row("mfn",  U64, stop=_SHADOW),
    Row("gmfn", U64, start=_SHADOW),
)  # fmt: skip

DOMAIN_SETUP_STRUCT = Table(
    "dom0_domain_setup", "dom0_op",
    *_DOMAIN,
    pad(6),
    Row("flags", U64),
    start=_SHADOW,
)  # fmt: skip

SETTIMEOFFSET_STRUCT = Table(
    "dom0_settimeoffset", "dom0_op",
    *_DOMAIN,
    pad(2),
    Row("time_offset_seconds", S32),
    start=_SHADOW,
)  # fmt: skip

_GET, _PUT = {"direction": Direction.GET}, {"direction": Direction.PUT}
_BVT, _SEDF, _CREDIT = ({"sched_id": number} for number in (Scheduler.BVT, Scheduler.SEDF, Scheduler.CREDIT))

GETMEMLIST = Operation(DOM0_OP, "getmemlist", 2, GETMEMLIST_STRUCT, changes=False)
SCHEDCTL_GET = Operation(DOM0_OP, "schedctl_get", 6, SCHED_CTL_CMD_STRUCT, changes=False, fixed=_GET)
SCHEDCTL_PUT = Operation(DOM0_OP, "schedctl_put", 6, SCHED_CTL_CMD_STRUCT, changes=True, fixed=_PUT)
ADJUSTDOM_BVT_GET = Operation(
    DOM0_OP, "adjustdom_bvt_get", 7, SCHED_ADJDOM_BVT_STRUCT, changes=False, fixed={**_BVT, **_GET}
)
ADJUSTDOM_BVT_PUT = Operation(
    DOM0_OP, "adjustdom_bvt_put", 7, SCHED_ADJDOM_BVT_STRUCT, changes=True, fixed={**_BVT, **_PUT}
)
ADJUSTDOM_SEDF_GET = Operation(
    DOM0_OP, "adjustdom_sedf_get", 7, SCHED_ADJDOM_SEDF_STRUCT, changes=False, fixed={**_SEDF, **_GET}
)
ADJUSTDOM_SEDF_PUT = Operation(
    DOM0_OP, "adjustdom_sedf_put", 7, SCHED_ADJDOM_SEDF_STRUCT, changes=True, fixed={**_SEDF, **_PUT}
)
ADJUSTDOM_CREDIT_GET = Operation(
    DOM0_OP, "adjustdom_credit_get", 7, SCHED_ADJDOM_CREDIT_STRUCT, changes=False, fixed={**_CREDIT, **_GET}
)
ADJUSTDOM_CREDIT_PUT = Operation(
    DOM0_OP, "adjustdom_credit_put", 7, SCHED_ADJDOM_CREDIT_STRUCT, changes=True, fixed={**_CREDIT, **_PUT}
)
CREATEDOMAIN = Operation(DOM0_OP, "createdomain", 8, CREATEDOMAIN_STRUCT, changes=True)
DESTROYDOMAIN = Operation(DOM0_OP, "destroydomain", 9, DESTROYDOMAIN_STRUCT, changes=True)
PAUSEDOMAIN = Operation(DOM0_OP, "pausedomain", 10, PAUSEDOMAIN_STRUCT, changes=True)
UNPAUSEDOMAIN = Operation(DOM0_OP, "unpausedomain", 11, UNPAUSEDOMAIN_STRUCT, changes=True)
GETDOMAININFO = Operation(DOM0_OP, "getdomaininfo", 12, GETDOMAININFO_STRUCT, changes=False)
SETVCPUCONTEXT = Operation(DOM0_OP, "setvcpucontext", 13, SETVCPUCONTEXT_STRUCT, changes=True)
MSR_READ = Operation(DOM0_OP, "msr_read", 15, MSR_STRUCT, changes=False, fixed={"write": 0})
MSR_WRITE = Operation(DOM0_OP, "msr_write", 15, MSR_STRUCT, changes=True, fixed={"write": 1})
SETTIME = Operation(DOM0_OP, "settime", 17, SETTIME_STRUCT, changes=True)
GETPAGEFRAMEINFO = Operation(DOM0_OP, "getpageframeinfo", 18, GETPAGEFRAMEINFO_STRUCT, changes=False)
READCONSOLE = Operation(DOM0_OP, "readconsole", 19, READCONSOLE_STRUCT, changes=False, fixed={"clear": 0})
READCONSOLE_CLEAR = Operation(
    DOM0_OP, "readconsole_clear", 19, READCONSOLE_STRUCT, changes=True, fixed={"clear": 1}
)
SETVCPUAFFINITY = Operation(DOM0_OP, "setvcpuaffinity", 20, SETVCPUAFFINITY_STRUCT, changes=True)
TBUFCONTROL = Operation(DOM0_OP, "tbufcontrol", 21, TBUFCONTROL_STRUCT, changes=True)
PHYSINFO = Operation(DOM0_OP, "physinfo", 22, PHYSINFO_STRUCT, changes=False)
SCHED_ID = Operation(DOM0_OP, "sched_id", 24, SCHED_ID_STRUCT, changes=False)
SHADOW_CONTROL = Operation(DOM0_OP, "shadow_control", 25, SHADOW_CONTROL_STRUCT, changes=True)
SHADOW_CONTROL_PEEK = Operation(
    DOM0_OP, "shadow_control_peek", 25, SHADOW_CONTROL_STRUCT, changes=False, fixed={"op": ShadowOp.PEEK}
)
SETDOMAINMAXMEM = Operation(DOM0_OP, "setdomainmaxmem", 28, SETDOMAINMAXMEM_STRUCT, changes=True)
GETPAGEFRAMEINFO2 = Operation(DOM0_OP, "getpageframeinfo2", 29, GETPAGEFRAMEINFO2_STRUCT, changes=False)
ADD_MEMTYPE = Operation(DOM0_OP, "add_memtype", 31, ADD_MEMTYPE_STRUCT, changes=True)
DEL_MEMTYPE = Operation(DOM0_OP, "del_memtype", 32, DEL_MEMTYPE_STRUCT, changes=True)
READ_MEMTYPE = Operation(DOM0_OP, "read_memtype", 33, READ_MEMTYPE_STRUCT, changes=False)
PERFCCONTROL_RESET = Operation(
    DOM0_OP, "perfccontrol_reset", 34, PERFCCONTROL_STRUCT, changes=True, fixed={"op": PerfcOp.RESET}
)
PERFCCONTROL_QUERY = Operation(
    DOM0_OP, "perfccontrol_query", 34, PERFCCONTROL_STRUCT, changes=False, fixed={"op": PerfcOp.QUERY}
)
MICROCODE = Operation(DOM0_OP, "microcode", 35, MICROCODE_STRUCT, changes=True)
IOPORT_PERMISSION = Operation(DOM0_OP, "ioport_permission", 36, IOPORT_PERMISSION_STRUCT, changes=True)
GETVCPUCONTEXT = Operation(DOM0_OP, "getvcpucontext", 37, GETVCPUCONTEXT_STRUCT, changes=False)
GETDOMAININFOLIST = Operation(DOM0_OP, "getdomaininfolist", 38, GETDOMAININFOLIST_STRUCT, changes=False)
PLATFORM_QUIRK = Operation(DOM0_OP, "platform_quirk", 39, PLATFORM_QUIRK_STRUCT, changes=True)
PHYSICAL_MEMORY_MAP = Operation(DOM0_OP, "physical_memory_map", 40, PHYSICAL_MEMORY_MAP_STRUCT, changes=False)
MAX_VCPUS = Operation(DOM0_OP, "max_vcpus", 41, MAX_VCPUS_STRUCT, changes=True)
GETMEMLIST2 = Operation(
    DOM0_OP, "getmemlist2", 42, GETMEMLIST2_STRUCT, changes=False, listing=Listing("buffer", "num_pfns")
)
GETVCPUINFO = Operation(DOM0_OP, "getvcpuinfo", 43, GETVCPUINFO_STRUCT, changes=False)
SETDOMAINHANDLE = Operation(DOM0_OP, "setdomainhandle", 44, SETDOMAINHANDLE_STRUCT, changes=True)
SETDEBUGGING = Operation(DOM0_OP, "setdebugging", 45, SETDEBUGGING_STRUCT, changes=True)
IRQ_PERMISSION = Operation(DOM0_OP, "irq_permission", 46, IRQ_PERMISSION_STRUCT, changes=True)
IOMEM_PERMISSION = Operation(DOM0_OP, "iomem_permission", 47, IOMEM_PERMISSION_STRUCT, changes=True)
HYPERCALL_INIT = Operation(DOM0_OP, "hypercall_init", 48, HYPERCALL_INIT_STRUCT, changes=True)
DOMAIN_SETUP = Operation(DOM0_OP, "domain_setup", 49, DOMAIN_SETUP_STRUCT, changes=True, start=_SHADOW)
SETTIMEOFFSET = Operation(DOM0_OP, "settimeoffset", 50, SETTIMEOFFSET_STRUCT, changes=True, start=_SHADOW)
