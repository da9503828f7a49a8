# SPDX-License-Identifier: MIT
"""domctl (public/domctl.h): the toolstack's operations on one domain. Bounds are domctl interface numbers."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.errno import XenErrno
from pyxc.abi.flags import Flags
from pyxc.abi.former import former
from pyxc.abi.layout import BOOL, HANDLE, S32, S64, U8, U16, U32, U64, Row, Table, nested, pad
from pyxc.abi.operation import DOMCTL, Listing, Operation


class DomainFlag(Flags):
    """State of a domain (XEN_DOMINF_*): getdomaininfo.flags without the shutdown code."""

    DYING = 1 << 0
    HVM_GUEST = 1 << 1
    SHUTDOWN = 1 << 2
    PAUSED = 1 << 3
    BLOCKED = 1 << 4
    RUNNING = 1 << 5
    DEBUGGED = 1 << 6
    XS_DOMAIN = 1 << 7
    HAP = 1 << 8


def former_flags(bits: int) -> DomainFlag:
    """getdomaininfo.flags as Xen 4.4 to 4.8 (domctl 9 to 0xc) numbered them.

    Bit 7 was a domain of the first kind of PVH, translated like every HVM domain, and so is HVM_GUEST here;
    XS_DOMAIN (since 4.7) and HAP (since 4.8) were one bit higher.
    """
    moved = ((7, DomainFlag.HVM_GUEST), (8, DomainFlag.XS_DOMAIN), (9, DomainFlag.HAP))
    return DomainFlag(bits & 0x7F | sum(flag for bit, flag in moved if bits >> bit & 1))


SHUTDOWN_SHIFT: Final = 16
SHUTDOWN_MASK: Final = 255
"""(getdomaininfo.flags >> SHUTDOWN_SHIFT) & SHUTDOWN_MASK is a sched.ShutdownReason once SHUTDOWN is set."""


class AffinityFlag(Flags):
    """Which maps vcpuaffinity sets or gets (XEN_VCPUAFFINITY_*)."""

    HARD = 1 << 0
    SOFT = 1 << 1
    FORCE = 1 << 2


class PageType(IntEnum):
    """The type of a frame from getpageframeinfo3 (XEN_DOMCTL_PFINFO_*); page tables may also be
    PAGE_PINNED."""

    NOTAB = 0x0 << 28
    L1TAB = 0x1 << 28
    L2TAB = 0x2 << 28
    L3TAB = 0x3 << 28
    L4TAB = 0x4 << 28
    PAGEDTAB = 0x8 << 28
    """4.0 to 4.2: paged out."""
    BROKEN = 0xD << 28
    XALLOC = 0xE << 28
    XTAB = 0xF << 28


PAGE_PINNED: Final = 1 << 31
PAGE_TYPE_MASK: Final = 0xF << 28
"""Type and pin in an element of getpageframeinfo3."""


class Scheduler(IntEnum):
    """XEN_SCHEDULER_*."""

    SEDF = 4
    """To 4.5."""
    CREDIT = 5
    CREDIT2 = 6
    ARINC653 = 7
    RTDS = 8
    NULL = 9


class Trigger(IntEnum):
    """sendtrigger.trigger (XEN_DOMCTL_SENDTRIGGER_*)."""

    NMI = 0
    RESET = 1
    INIT = 2
    POWER = 3
    SLEEP = 4


GRANT_VERSION_MASK: Final = 15
"""The highest grant table version in createdomain.grant_opts; 0 is refused."""

_BITMAP = (
    Row("bitmap",  HANDLE),
    Row("nr_bits", U32),  # nr_cpus in the headers up to 4.2
    pad(4),
)  # fmt: skip
CPUMAP_STRUCT = Table("xenctl_cpumap", "domctl", *_BITMAP, stop=0x9)
BITMAP_STRUCT = Table("xenctl_bitmap", "domctl", *_BITMAP, start=0x9)

ARCH_DOMAINCONFIG_STRUCT = Table(
    "xen_arch_domainconfig", "domctl",
    Row("dummy",           U8, start=0xB, stop=(0xB, (4, 7))),
    Row("emulation_flags", U32, start=(0xB, (4, 7))),
    Row("misc_flags",      U32, start=0x13),
    start=0xB,
)  # fmt: skip

CREATEDOMAIN_STRUCT = Table(
    "xen_domctl_createdomain", "domctl",
    Row("ssidref",             U32),
    Row("handle",              U8, 16),
    Row("flags",               U32),
    Row("iommu_opts",          U32, start=0x12),
    Row("max_vcpus",           U32, start=0x11),
    Row("max_evtchn_port",     U32, start=0x11),
    Row("max_grant_frames",    U32, start=0x11, stop=0x12),
    Row("max_maptrack_frames", U32, start=0x11, stop=0x12),
    Row("max_grant_frames",    S32, start=0x12),  # signed because -1 is the host's default
    Row("max_maptrack_frames", S32, start=0x12),
    Row("grant_opts",          U32, start=0x14),
    Row("altp2m_opts",         U32, start=0x17, stop=(0x17, (4, 21))),
    Row("altp2m.opts",         U16, start=(0x17, (4, 21))),
    Row("altp2m.nr",           U16, start=(0x17, (4, 21))),
    Row("vmtrace_size",        U32, start=0x13),
    Row("cpupool_id",          U32, start=0x15),
    *nested("arch", ARCH_DOMAINCONFIG_STRUCT),  # "config" in the headers up to 4.10
    pad(3, start=0xB, stop=(0xB, (4, 7))),
)  # fmt: skip

GETDOMAININFO_STRUCT = Table(
    "xen_domctl_getdomaininfo", "domctl",
    Row("domain",            U16),
    pad(2),
    Row("flags",             U32),
    Row("tot_pages",         U64),
    Row("max_pages",         U64),
    Row("outstanding_pages", U64, start=0x9),
    Row("shr_pages",         U64, start=0x6),
    Row("paged_pages",       U64, start=0x8),
    Row("shared_info_frame", U64),
    Row("cpu_time",          U64),
    Row("nr_online_vcpus",   U32),
    Row("max_vcpu_id",       U32),
    Row("ssidref",           U32),
    Row("handle",            U8, 16),
    Row("cpupool",           U32, start=0x7),
    pad(4, stop=0x7),
    Row("gpaddr_bits",       U8, start=0x14),
    pad(7, start=0x14),
    *nested("arch_config", ARCH_DOMAINCONFIG_STRUCT, start=0xF),
    pad(4, start=0xF, stop=0x13),
    before=former("GETDOMAININFO_STRUCT"),
)  # fmt: skip

GETMEMLIST_STRUCT = Table(
    "xen_domctl_getmemlist", "domctl",
    Row("max_pfns",  U64),
    Row("start_pfn", U64),
    Row("buffer",    HANDLE),
    Row("num_pfns",  U64),
    stop=0x10,
)  # fmt: skip

GETPAGEFRAMEINFO2_STRUCT = Table(
    "xen_domctl_getpageframeinfo2", "domctl",
    Row("num",   U64),
    Row("array", HANDLE),
    stop=0xB,
)  # fmt: skip

GETPAGEFRAMEINFO3_STRUCT = Table(
    "xen_domctl_getpageframeinfo3", "domctl",
    Row("num",   U64),
    Row("array", HANDLE),
    start=0x6,
)  # fmt: skip

MAX_MEM_STRUCT = Table("xen_domctl_max_mem", "domctl", Row("max_memkb", U64))

VCPUCONTEXT_STRUCT = Table(
    "xen_domctl_vcpucontext", "domctl",
    Row("vcpu", U32),
    pad(4),
    Row("ctxt", HANDLE),
)  # fmt: skip

GETVCPUINFO_STRUCT = Table(
    "xen_domctl_getvcpuinfo", "domctl",
    Row("vcpu",     U32),
    Row("online",   BOOL),
    Row("blocked",  BOOL),
    Row("running",  BOOL),
    pad(1),
    Row("cpu_time", U64),
    Row("cpu",      U32),
    pad(4),
)  # fmt: skip

VCPUAFFINITY_STRUCT = Table(
    "xen_domctl_vcpuaffinity", "domctl",
    Row("vcpu",  U32),
    Row("flags", U32, start=0xA),
    pad(4, stop=0xA),
    *nested("cpumap", CPUMAP_STRUCT, stop=0xA),
    *nested("cpumap_hard", BITMAP_STRUCT, start=0xA),
    *nested("cpumap_soft", BITMAP_STRUCT, start=0xA),
)  # fmt: skip

NODEAFFINITY_STRUCT = Table("xen_domctl_nodeaffinity", "domctl", *nested("nodemap", BITMAP_STRUCT), start=0x9)

MAX_VCPUS_STRUCT = Table("xen_domctl_max_vcpus", "domctl", Row("max", U32))

SETDOMAINHANDLE_STRUCT = Table("xen_domctl_setdomainhandle", "domctl", Row("handle", U8, 16))

HYPERCALL_INIT_STRUCT = Table("xen_domctl_hypercall_init", "domctl", Row("gmfn", U64))

SETTIMEOFFSET_STRUCT = Table(
    "xen_domctl_settimeoffset", "domctl",
    Row("time_offset_seconds", S32, stop=0xB),
    Row("time_offset_seconds", S64, start=0xB),
)  # fmt: skip

ADDRESS_SIZE_STRUCT = Table("xen_domctl_address_size", "domctl", Row("size", U32))

SETDEBUGGING_STRUCT = Table("xen_domctl_setdebugging", "domctl", Row("enable", BOOL))

SET_TARGET_STRUCT = Table("xen_domctl_set_target", "domctl", Row("target", U16), start=(0x5, (3, 3)))

SENDTRIGGER_STRUCT = Table(
    "xen_domctl_sendtrigger", "domctl",
    Row("trigger", U32),
    Row("vcpu",    U32),
)  # fmt: skip

_NO_VCPU = "the domain has no such vcpu"

CREATEDOMAIN = Operation(
    DOMCTL, "createdomain", 1, CREATEDOMAIN_STRUCT, changes=True, before=former("CREATEDOMAIN"),
    hints={
        XenErrno.EEXIST: "the id is in use; since Xen 4.21 also after a creation that was refused",
        XenErrno.EINVAL: "this Xen or machine cannot have such a domain (iommu needs an IOMMU, HVM without "
        "hap needs shadow page tables), or the id is in use (before Xen 4.14)",
    },
)  # fmt: skip
DESTROYDOMAIN = Operation(
    DOMCTL, "destroydomain", 2, changes=True, before=former("DESTROYDOMAIN"),
    retry_on={XenErrno.EAGAIN: None},  # up to 4.5, while there is more to free
)  # fmt: skip
PAUSEDOMAIN = Operation(DOMCTL, "pausedomain", 3, changes=True, before=former("PAUSEDOMAIN"))
UNPAUSEDOMAIN = Operation(
    DOMCTL, "unpausedomain", 4, changes=True, before=former("UNPAUSEDOMAIN"),
    hints={XenErrno.EINVAL: "no toolstack has paused the domain"},
)  # fmt: skip
GETDOMAININFO = Operation(
    DOMCTL, "getdomaininfo", 5, GETDOMAININFO_STRUCT, changes=False, before=former("GETDOMAININFO")
)
GETMEMLIST = Operation(
    DOMCTL, "getmemlist", 6, GETMEMLIST_STRUCT, changes=False, before=former("GETMEMLIST"),
    listing=Listing("buffer", "num_pfns"),
)  # fmt: skip
GETPAGEFRAMEINFO2 = Operation(
    DOMCTL, "getpageframeinfo2", 8, GETPAGEFRAMEINFO2_STRUCT, changes=False, populates=True
)
SETVCPUAFFINITY = Operation(
    DOMCTL, "setvcpuaffinity", 9, VCPUAFFINITY_STRUCT, changes=True,
    hints={XenErrno.EINVAL: f"{_NO_VCPU}, or its pool has none of these cpus"},
)  # fmt: skip
MAX_MEM = Operation(DOMCTL, "max_mem", 11, MAX_MEM_STRUCT, changes=True, before=former("SETDOMAINMAXMEM"))
SETVCPUCONTEXT = Operation(
    DOMCTL, "setvcpucontext", 12, VCPUCONTEXT_STRUCT, changes=True, before=former("SETVCPUCONTEXT"),
    hints={
        XenErrno.EINVAL: f"{_NO_VCPU}, it belongs to dom0, or Xen rejects these registers",
        XenErrno.EOPNOTSUPP: "the page tables and descriptor tables of an initialised vcpu cannot change",
    },
)  # fmt: skip
GETVCPUCONTEXT = Operation(
    DOMCTL, "getvcpucontext", 13, VCPUCONTEXT_STRUCT, changes=False, before=former("GETVCPUCONTEXT"),
    hints={
        XenErrno.EINVAL: f"{_NO_VCPU}, or it is the calling vcpu",
        XenErrno.ENODATA: "the vcpu was never initialised",
    },
)  # fmt: skip
GETVCPUINFO = Operation(
    DOMCTL, "getvcpuinfo", 14, GETVCPUINFO_STRUCT, changes=False, before=former("GETVCPUINFO"),
    hints={XenErrno.EINVAL: _NO_VCPU, XenErrno.ENOENT: _NO_VCPU},  # ENOENT since 4.22
)  # fmt: skip
MAX_VCPUS = Operation(DOMCTL, "max_vcpus", 15, MAX_VCPUS_STRUCT, changes=True, before=former("MAX_VCPUS"))
SETDOMAINHANDLE = Operation(
    DOMCTL, "setdomainhandle", 17, SETDOMAINHANDLE_STRUCT, changes=True, before=former("SETDOMAINHANDLE")
)
SETDEBUGGING = Operation(
    DOMCTL, "setdebugging", 18, SETDEBUGGING_STRUCT, changes=True, before=former("SETDEBUGGING")
)
HYPERCALL_INIT = Operation(
    DOMCTL, "hypercall_init", 22, HYPERCALL_INIT_STRUCT, changes=True, before=former("HYPERCALL_INIT")
)
SETTIMEOFFSET = Operation(
    DOMCTL, "settimeoffset", 24, SETTIMEOFFSET_STRUCT, changes=True, before=former("SETTIMEOFFSET")
)
GETVCPUAFFINITY = Operation(
    DOMCTL, "getvcpuaffinity", 25, VCPUAFFINITY_STRUCT, changes=False, hints={XenErrno.EINVAL: _NO_VCPU}
)
RESUMEDOMAIN = Operation(DOMCTL, "resumedomain", 27, changes=True)
SENDTRIGGER = Operation(
    DOMCTL, "sendtrigger", 28, SENDTRIGGER_STRUCT, changes=True,
    hints={XenErrno.EINVAL: "a PV domain takes the trigger nmi only", XenErrno.ESRCH: _NO_VCPU},
)  # fmt: skip
SET_ADDRESS_SIZE = Operation(DOMCTL, "set_address_size", 35, ADDRESS_SIZE_STRUCT, changes=True)
GET_ADDRESS_SIZE = Operation(DOMCTL, "get_address_size", 36, ADDRESS_SIZE_STRUCT, changes=False)
SET_TARGET = Operation(DOMCTL, "set_target", 46, SET_TARGET_STRUCT, changes=True)
GETPAGEFRAMEINFO3 = Operation(
    DOMCTL, "getpageframeinfo3", 61, GETPAGEFRAMEINFO3_STRUCT, changes=False, populates=True,
    retry_on={XenErrno.EFAULT: 2},  # it only reads, and an anonymous buffer can fault for a moment
)  # fmt: skip
SETNODEAFFINITY = Operation(DOMCTL, "setnodeaffinity", 68, NODEAFFINITY_STRUCT, changes=True)
GETNODEAFFINITY = Operation(DOMCTL, "getnodeaffinity", 69, NODEAFFINITY_STRUCT, changes=False)
