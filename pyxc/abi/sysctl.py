# SPDX-License-Identifier: MIT
"""sysctl (public/sysctl.h): what the toolstack asks of the machine. Bounds are sysctl interface numbers."""

from __future__ import annotations

from typing import Final

from pyxc.abi import domctl
from pyxc.abi.flags import Flags
from pyxc.abi.former import former
from pyxc.abi.layout import HANDLE, S32, U8, U16, U32, U64, Row, Table, pad
from pyxc.abi.operation import SYSCTL, Listing, Operation, Stride


class Capability(Flags):
    """What the platform can do (XEN_SYSCTL_PHYSCAP_*), as numbered since sysctl 0x12 (Xen 4.12)."""

    HVM = 1 << 0
    PV = 1 << 1
    DIRECTIO = 1 << 2
    HAP = 1 << 3
    """Since 4.13, as are SHADOW and IOMMU_HAP_PT_SHARE."""
    SHADOW = 1 << 4
    IOMMU_HAP_PT_SHARE = 1 << 5
    VMTRACE = 1 << 6
    """Since 4.15."""
    VPMU = 1 << 7
    """Since 4.16, as are GNTTAB_V1 and GNTTAB_V2."""
    GNTTAB_V1 = 1 << 8
    GNTTAB_V2 = 1 << 9


def capabilities(bits: int, number: int) -> Capability:
    """physinfo.capabilities of a sysctl interface number as flags.

    Before 0x12 bit 1 was hvm_directio, which is DIRECTIO since, and PV went without saying.
    """
    if number >= 0x12:
        return Capability(bits)
    direct = Capability.DIRECTIO if bits & 0b10 else Capability(0)
    return Capability(bits & 0b01) | Capability.PV | direct


INVALID_CORE_ID: Final = 0xFFFFFFFF
INVALID_SOCKET_ID: Final = 0xFFFFFFFF
INVALID_NODE_ID: Final = 0xFFFFFFFF
"""cputopo of a cpu that is not online."""
INVALID_MEM_SZ: Final = 0xFFFFFFFFFFFFFFFF
INVALID_NODE_DIST: Final = 0xFFFFFFFF
"""numainfo of a node that is not online."""

READCONSOLE_STRUCT = Table(
    "xen_sysctl_readconsole", "sysctl",
    Row("clear",       U32, stop=0x6),
    pad(4, stop=0x6),
    Row("clear",       U8, start=0x6),
    Row("incremental", U8, start=0x6),
    pad(2, start=0x6),
    Row("index",       U32, start=0x6),
    Row("buffer",      HANDLE),
    Row("count",       U32),
    pad(4),
)  # fmt: skip

PHYSINFO_STRUCT = Table(
    "xen_sysctl_physinfo", "sysctl",
    Row("threads_per_core",  U32),
    Row("cores_per_socket",  U32),
    Row("sockets_per_node",  U32, stop=0x6),
    Row("nr_cpus",           U32, start=0x6),
    Row("nr_nodes",          U32, stop=0x7),
    Row("max_cpu_id",        U32, start=0x8),
    Row("nr_nodes",          U32, start=0x8),
    Row("max_node_id",       U32, start=0x7),
    Row("cpu_khz",           U32),
    pad(4, stop=0x10),
    Row("capabilities",      U32, start=0x10),
    Row("arch_capabilities", U32, start=0x15),
    pad(4, start=0x15),
    Row("total_pages",       U64),
    Row("free_pages",        U64),
    Row("scrub_pages",       U64),
    Row("outstanding_pages", U64, start=0xA),
    Row("max_mfn",           U64, start=0x10),
    Row("hw_cap",            U32, 8),
    Row("max_cpu_id",        U32, start=0x6, stop=0x8),
    pad(4, start=0x6, stop=0x8),
    Row("cpu_to_node",       HANDLE, start=0x6, stop=0x8),
    Row("capabilities",      U32, start=(0x6, (3, 3)), stop=0x10),
    pad(4, start=(0x6, (3, 3)), stop=0x10),
    before=former("PHYSINFO_STRUCT"),
)  # fmt: skip

SCHED_ID_STRUCT = Table("xen_sysctl_sched_id", "sysctl", Row("sched_id", U32))

GETDOMAININFOLIST_STRUCT = Table(
    "xen_sysctl_getdomaininfolist", "sysctl",
    Row("first_domain", U16),
    pad(2),
    Row("max_domains",  U32),
    Row("buffer",       HANDLE),
    Row("num_domains",  U32),
    pad(4),
)  # fmt: skip

DEBUG_KEYS_STRUCT = Table(
    "xen_sysctl_debug_keys", "sysctl",
    Row("keys",    HANDLE),
    Row("nr_keys", U32),
    pad(4),
)  # fmt: skip

CPUINFO_STRUCT = Table("xen_sysctl_cpuinfo", "sysctl", Row("idletime", U64), start=0x6)

GETCPUINFO_STRUCT = Table(
    "xen_sysctl_getcpuinfo", "sysctl",
    Row("max_cpus", U32),
    pad(4),
    Row("info",     HANDLE),
    Row("nr_cpus",  U32),
    pad(4),
    start=0x6,
)  # fmt: skip

AVAILHEAP_STRUCT = Table(
    "xen_sysctl_availheap", "sysctl",
    Row("min_bitwidth", U32),
    Row("max_bitwidth", U32),
    Row("node",         S32),
    pad(4),
    Row("avail_bytes",  U64),
    start=0x6,
)  # fmt: skip

CPUTOPO_STRUCT = Table(
    "xen_sysctl_cputopo", "sysctl",
    Row("core",   U32),
    Row("socket", U32),
    Row("node",   U32),
    start=0xC,
)  # fmt: skip

CPUTOPOINFO_STRUCT = Table(
    "xen_sysctl_cputopoinfo", "sysctl",
    Row("num_cpus", U32),
    pad(4),
    Row("cputopo",  HANDLE),
    start=0xC,
)  # fmt: skip

TOPOLOGYINFO_STRUCT = Table(
    "xen_sysctl_topologyinfo", "sysctl",
    Row("max_cpu_index", U32),
    pad(4),
    Row("cpu_to_core",   HANDLE),
    Row("cpu_to_socket", HANDLE),
    Row("cpu_to_node",   HANDLE),
    start=0x8,
    stop=0xC,
)  # fmt: skip

MEMINFO_STRUCT = Table(
    "xen_sysctl_meminfo", "sysctl",
    Row("memsize", U64),
    Row("memfree", U64),
    start=0xC,
)  # fmt: skip

NUMAINFO_STRUCT = Table(
    "xen_sysctl_numainfo", "sysctl",
    Row("max_node_index",        U32, stop=0xC),
    Row("num_nodes",             U32, start=0xC),
    pad(4),
    Row("node_to_memsize",       HANDLE, stop=0xC),
    Row("node_to_memfree",       HANDLE, stop=0xC),
    Row("node_to_node_distance", HANDLE, stop=0xC),
    Row("meminfo",               HANDLE, start=0xC),
    Row("distance",              HANDLE, start=0xC),
    start=0x8,
)  # fmt: skip

READCONSOLE = Operation(
    SYSCTL, "readconsole", 1, READCONSOLE_STRUCT, changes=False, fixed={"clear": 0},
    before=former("READCONSOLE"),
)  # fmt: skip
READCONSOLE_CLEAR = Operation(
    SYSCTL, "readconsole_clear", 1, READCONSOLE_STRUCT, changes=True, fixed={"clear": 1},
    before=former("READCONSOLE_CLEAR"),
)  # fmt: skip
PHYSINFO = Operation(SYSCTL, "physinfo", 3, PHYSINFO_STRUCT, changes=False, before=former("PHYSINFO"))
SCHED_ID = Operation(SYSCTL, "sched_id", 4, SCHED_ID_STRUCT, changes=False, before=former("SCHED_ID"))
GETDOMAININFOLIST = Operation(
    SYSCTL, "getdomaininfolist", 6, GETDOMAININFOLIST_STRUCT, changes=False,
    before=former("GETDOMAININFOLIST"), listing=Listing("buffer", "num_domains"),
    strides={"buffer": Stride(domctl.GETDOMAININFO_STRUCT, "num_domains")},
)  # fmt: skip
DEBUG_KEYS = Operation(SYSCTL, "debug_keys", 7, DEBUG_KEYS_STRUCT, changes=True)
GETCPUINFO = Operation(
    SYSCTL, "getcpuinfo", 8, GETCPUINFO_STRUCT, changes=False,
    strides={"info": Stride(CPUINFO_STRUCT, "nr_cpus")},
)  # fmt: skip
AVAILHEAP = Operation(SYSCTL, "availheap", 9, AVAILHEAP_STRUCT, changes=False)
TOPOLOGYINFO = Operation(SYSCTL, "topologyinfo", 16, TOPOLOGYINFO_STRUCT, changes=False)
CPUTOPOINFO = Operation(
    SYSCTL, "cputopoinfo", 16, CPUTOPOINFO_STRUCT, changes=False,
    strides={"cputopo": Stride(CPUTOPO_STRUCT, "num_cpus")},
)  # fmt: skip
NUMAINFO = Operation(
    SYSCTL, "numainfo", 17, NUMAINFO_STRUCT, changes=False,
    strides={"meminfo": Stride(MEMINFO_STRUCT, "num_nodes")},
)  # fmt: skip
