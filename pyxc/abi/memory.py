# SPDX-License-Identifier: MIT
"""memory_op (public/memory.h): the memory of domains. Bounds are Xen releases."""

from __future__ import annotations

from enum import IntEnum

from pyxc.abi.errno import XenErrno
from pyxc.abi.flags import Flags
from pyxc.abi.layout import HANDLE, U16, U32, U64, Row, Table, nested, pad
from pyxc.abi.operation import MEMORY_OP, Operation

_NODE_AT = 8
"""Where mem_flags have the number of a node, plus 1."""


class MemFlag(Flags):
    """memory_reservation.mem_flags above the address bits (XENMEMF_*)."""

    POPULATE_ON_DEMAND = 1 << 16
    EXACT_NODE_REQUEST = 1 << 17
    VNODE = 1 << 18


def node_flags(node: int) -> int:
    """The mem_flags of memory of a virtual node, from the node of the host behind it and from no other."""
    return MemFlag.VNODE | MemFlag.EXACT_NODE_REQUEST | (node + 1) << _NODE_AT


class MapSpace(IntEnum):
    """The kinds of pages for add_to_physmap (XENMAPSPACE_*)."""

    SHARED_INFO = 0
    GRANT_TABLE = 1
    GMFN = 2
    GMFN_RANGE = 3
    GMFN_FOREIGN = 4
    DEV_MMIO = 5


class Resource(IntEnum):
    """The resources for acquire_resource (XENMEM_resource_*)."""

    IOREQ_SERVER = 0
    GRANT_TABLE = 1
    """Since 4.12; `id` 0 is the shared table, 1 the status frames."""
    VMTRACE_BUF = 2
    """Since 4.15."""


class MemoryType(IntEnum):
    """type of an entry of a memory map (XEN_HVM_MEMMAP_TYPE_*, as E820 numbers them)."""

    RAM = 1
    RESERVED = 2
    ACPI = 3
    NVS = 4
    UNUSABLE = 5
    DISABLED = 6
    PMEM = 7


RESERVATION_STRUCT = Table(
    "xen_memory_reservation", "xen",
    Row("extent_start", HANDLE),
    Row("nr_extents",   U64),
    Row("extent_order", U32),
    Row("address_bits", U32, stop=(3, 3)),
    Row("mem_flags",    U32, start=(3, 3)),
    Row("domid",        U16),
    pad(6),
)  # fmt: skip

DOMAIN_STRUCT = Table("domid_t", "xen", Row("domid", U16))

MACHPHYS_MFN_LIST_STRUCT = Table(
    "xen_machphys_mfn_list", "xen",
    Row("max_extents",  U32),
    pad(4),
    Row("extent_start", HANDLE),
    Row("nr_extents",   U32),
    pad(4),
)  # fmt: skip

MACHPHYS_MAPPING_STRUCT = Table(
    "xen_machphys_mapping", "xen",
    Row("v_start", U64),
    Row("v_end",   U64),
    Row("max_mfn", U64),
)  # fmt: skip

ADD_TO_PHYSMAP_STRUCT = Table(
    "xen_add_to_physmap", "xen",
    Row("domid", U16),
    Row("size",  U16, start=(4, 2)),
    pad(2, stop=(4, 2)),
    Row("space", U32),
    Row("idx",   U64),
    Row("gpfn",  U64),
)  # fmt: skip

REMOVE_FROM_PHYSMAP_STRUCT = Table(
    "xen_remove_from_physmap", "xen",
    Row("domid", U16),
    pad(6),
    Row("gpfn",  U64),
    start=(4, 2),
)  # fmt: skip

MEMORY_MAP_STRUCT = Table(
    "xen_memory_map", "xen",
    Row("nr_entries", U32),
    pad(4),
    Row("buffer",     HANDLE),
)  # fmt: skip

MEMORY_MAP_ENTRY_STRUCT = Table(
    "e820entry", "xen",
    Row("addr", U64),
    Row("size", U64),
    Row("type", U32),
)  # fmt: skip

FOREIGN_MEMORY_MAP_STRUCT = Table(
    "xen_foreign_memory_map", "xen",
    Row("domid", U16),
    pad(6),
    *nested("map", MEMORY_MAP_STRUCT),
)  # fmt: skip

POD_TARGET_STRUCT = Table(
    "xen_pod_target", "xen",
    Row("target_pages",    U64),
    Row("tot_pages",       U64),
    Row("pod_cache_pages", U64),
    Row("pod_entries",     U64),
    Row("domid",           U16),
    pad(6),
    start=(3, 4),
)  # fmt: skip

ACQUIRE_RESOURCE_STRUCT = Table(
    "xen_mem_acquire_resource", "xen",
    Row("domid",      U16),
    Row("type",       U16),
    Row("id",         U32),
    Row("nr_frames",  U32),
    Row("flags",      U32, stop=(4, 13)),
    pad(4, start=(4, 13)),
    Row("frame",      U64),
    Row("frame_list", HANDLE),
    start=(4, 11),
)  # fmt: skip

VMEMRANGE_STRUCT = Table(
    "xen_vmemrange", "xen",
    Row("start", U64),
    Row("end",   U64),
    Row("flags", U32),
    Row("nid",   U32),
    start=(4, 5),
)  # fmt: skip

VNUMA_TOPOLOGY_INFO_STRUCT = Table(
    "xen_vnuma_topology_info", "xen",
    Row("domid",           U16),
    pad(2),
    Row("nr_vnodes",       U32),
    Row("nr_vcpus",        U32),
    Row("nr_vmemranges",   U32),
    Row("vdistance.h",     HANDLE),
    Row("vcpu_to_vnode.h", HANDLE),
    Row("vmemrange.h",     HANDLE),
    start=(4, 5),
)  # fmt: skip

INCREASE_RESERVATION = Operation(MEMORY_OP, "increase_reservation", 0, RESERVATION_STRUCT, changes=True)
DECREASE_RESERVATION = Operation(MEMORY_OP, "decrease_reservation", 1, RESERVATION_STRUCT, changes=True)
MAXIMUM_RAM_PAGE = Operation(MEMORY_OP, "maximum_ram_page", 2, changes=False, wide=True)
CURRENT_RESERVATION = Operation(MEMORY_OP, "current_reservation", 3, DOMAIN_STRUCT, changes=False, wide=True)
MAXIMUM_RESERVATION = Operation(MEMORY_OP, "maximum_reservation", 4, DOMAIN_STRUCT, changes=False, wide=True)
MACHPHYS_MFN_LIST = Operation(MEMORY_OP, "machphys_mfn_list", 5, MACHPHYS_MFN_LIST_STRUCT, changes=False)
POPULATE_PHYSMAP = Operation(MEMORY_OP, "populate_physmap", 6, RESERVATION_STRUCT, changes=True)
ADD_TO_PHYSMAP = Operation(MEMORY_OP, "add_to_physmap", 7, ADD_TO_PHYSMAP_STRUCT, changes=True)
MEMORY_MAP = Operation(MEMORY_OP, "memory_map", 9, MEMORY_MAP_STRUCT, changes=False, start=(3, 1))
MACHPHYS_MAPPING = Operation(
    MEMORY_OP, "machphys_mapping", 12, MACHPHYS_MAPPING_STRUCT, changes=False, start=(3, 1)
)
SET_MEMORY_MAP = Operation(
    MEMORY_OP, "set_memory_map", 13, FOREIGN_MEMORY_MAP_STRUCT, changes=True, start=(3, 1)
)
MAXIMUM_GPFN = Operation(MEMORY_OP, "maximum_gpfn", 14, DOMAIN_STRUCT, changes=False, wide=True, start=(3, 1))
REMOVE_FROM_PHYSMAP = Operation(
    MEMORY_OP, "remove_from_physmap", 15, REMOVE_FROM_PHYSMAP_STRUCT, changes=True,
    hints={XenErrno.ENOENT: "the domain has no page at this frame"},
)  # fmt: skip
SET_POD_TARGET = Operation(MEMORY_OP, "set_pod_target", 16, POD_TARGET_STRUCT, changes=True)
GET_POD_TARGET = Operation(MEMORY_OP, "get_pod_target", 17, POD_TARGET_STRUCT, changes=False)
CLAIM_PAGES = Operation(MEMORY_OP, "claim_pages", 24, RESERVATION_STRUCT, changes=True, start=(4, 3))
GET_VNUMAINFO = Operation(MEMORY_OP, "get_vnumainfo", 26, VNUMA_TOPOLOGY_INFO_STRUCT, changes=False)
ACQUIRE_RESOURCE = Operation(MEMORY_OP, "acquire_resource", 28, ACQUIRE_RESOURCE_STRUCT, changes=True)
