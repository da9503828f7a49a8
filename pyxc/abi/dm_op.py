# SPDX-License-Identifier: MIT
"""dm_op (public/hvm/dm_op.h): a device model's operations on one HVM or PVH domain. Stable since Xen 4.9."""

from __future__ import annotations

from pyxc.abi.layout import U8, U16, U32, U64, Row, Table, pad
from pyxc.abi.operation import DM_OP, Operation

CREATE_IOREQ_SERVER_STRUCT = Table(
    "xen_dm_op.u.create_ioreq_server", "xen",
    Row("handle_bufioreq", U8),
    pad(3),
    Row("id",              U16),
    start=(4, 9),
)  # fmt: skip

GET_IOREQ_SERVER_INFO_STRUCT = Table(
    "xen_dm_op.u.get_ioreq_server_info", "xen",
    Row("id",            U16),
    Row("flags",         U16, start=(4, 11)),
    pad(2, stop=(4, 11)),
    Row("bufioreq_port", U32),
    Row("ioreq_gfn",     U64),
    Row("bufioreq_gfn",  U64),
    start=(4, 9),
)  # fmt: skip

MAP_IO_RANGE_TO_IOREQ_SERVER_STRUCT = Table(
    "xen_dm_op.u.map_io_range_to_ioreq_server", "xen",
    Row("id",    U16),
    pad(2),
    Row("type",  U32),
    Row("start", U64),
    Row("end",   U64),
    start=(4, 9),
)  # fmt: skip

SET_IOREQ_SERVER_STATE_STRUCT = Table(
    "xen_dm_op.u.set_ioreq_server_state", "xen",
    Row("id",      U16),
    Row("enabled", U8),
    pad(1),
    start=(4, 9),
)  # fmt: skip

DESTROY_IOREQ_SERVER_STRUCT = Table(
    "xen_dm_op.u.destroy_ioreq_server", "xen",
    Row("id", U16),
    pad(2),
    start=(4, 9),
)  # fmt: skip

TRACK_DIRTY_VRAM_STRUCT = Table(
    "xen_dm_op.u.track_dirty_vram", "xen",
    Row("nr",        U32),
    pad(4),
    Row("first_pfn", U64),
    start=(4, 9),
)  # fmt: skip
"""Buffer 1 receives a bitmap of `nr` bits: the pages written since the last call."""

SET_PCI_INTX_LEVEL_STRUCT = Table(
    "xen_dm_op.u.set_pci_intx_level", "xen",
    Row("domain", U16),
    Row("bus",    U8),
    Row("device", U8),
    Row("intx",   U8),
    Row("level",  U8),
    start=(4, 9),
)  # fmt: skip
"""`domain` is the PCI domain."""

SET_ISA_IRQ_LEVEL_STRUCT = Table(
    "xen_dm_op.u.set_isa_irq_level", "xen",
    Row("isa_irq", U8),
    Row("level",   U8),
    start=(4, 9),
)  # fmt: skip

SET_PCI_LINK_ROUTE_STRUCT = Table(
    "xen_dm_op.u.set_pci_link_route", "xen",
    Row("link",    U8),
    Row("isa_irq", U8),
    start=(4, 9),
)  # fmt: skip

MODIFIED_MEMORY_STRUCT = Table(
    "xen_dm_op.u.modified_memory", "xen",
    Row("nr_extents", U32),
    Row("opaque",     U32),
    start=(4, 9),
)  # fmt: skip
"""Buffer 1 is an array of extents: first_pfn u64, nr u32, padding u32."""

SET_MEM_TYPE_STRUCT = Table(
    "xen_dm_op.u.set_mem_type", "xen",
    Row("nr",        U32),
    Row("mem_type",  U16),
    pad(2),
    Row("first_pfn", U64),
    start=(4, 9),
)  # fmt: skip

INJECT_EVENT_STRUCT = Table(
    "xen_dm_op.u.inject_event", "xen",
    Row("vcpuid",     U32),
    Row("vector",     U8),
    Row("type",       U8),
    Row("insn_len",   U8),
    pad(1),
    Row("error_code", U32),
    pad(4),
    Row("cr2",        U64),
    start=(4, 9),
)  # fmt: skip

INJECT_MSI_STRUCT = Table(
    "xen_dm_op.u.inject_msi", "xen",
    Row("data", U32),
    pad(4),
    Row("addr", U64),
    start=(4, 9),
)  # fmt: skip

REMOTE_SHUTDOWN_STRUCT = Table("xen_dm_op.u.remote_shutdown", "xen", Row("reason", U32), start=(4, 10))

NR_VCPUS_STRUCT = Table("xen_dm_op.u.nr_vcpus", "xen", Row("vcpus", U32), start=(4, 15))

CREATE_IOREQ_SERVER = Operation(DM_OP, "create_ioreq_server", 1, CREATE_IOREQ_SERVER_STRUCT, changes=True)
GET_IOREQ_SERVER_INFO = Operation(
    DM_OP, "get_ioreq_server_info", 2, GET_IOREQ_SERVER_INFO_STRUCT, changes=True
)
MAP_IO_RANGE_TO_IOREQ_SERVER = Operation(
    DM_OP, "map_io_range_to_ioreq_server", 3, MAP_IO_RANGE_TO_IOREQ_SERVER_STRUCT, changes=True
)
UNMAP_IO_RANGE_FROM_IOREQ_SERVER = Operation(
    DM_OP, "unmap_io_range_from_ioreq_server", 4, MAP_IO_RANGE_TO_IOREQ_SERVER_STRUCT, changes=True
)
SET_IOREQ_SERVER_STATE = Operation(
    DM_OP, "set_ioreq_server_state", 5, SET_IOREQ_SERVER_STATE_STRUCT, changes=True
)
DESTROY_IOREQ_SERVER = Operation(DM_OP, "destroy_ioreq_server", 6, DESTROY_IOREQ_SERVER_STRUCT, changes=True)
TRACK_DIRTY_VRAM = Operation(DM_OP, "track_dirty_vram", 7, TRACK_DIRTY_VRAM_STRUCT, changes=True)
SET_PCI_INTX_LEVEL = Operation(DM_OP, "set_pci_intx_level", 8, SET_PCI_INTX_LEVEL_STRUCT, changes=True)
SET_ISA_IRQ_LEVEL = Operation(DM_OP, "set_isa_irq_level", 9, SET_ISA_IRQ_LEVEL_STRUCT, changes=True)
SET_PCI_LINK_ROUTE = Operation(DM_OP, "set_pci_link_route", 10, SET_PCI_LINK_ROUTE_STRUCT, changes=True)
MODIFIED_MEMORY = Operation(DM_OP, "modified_memory", 11, MODIFIED_MEMORY_STRUCT, changes=True)
SET_MEM_TYPE = Operation(DM_OP, "set_mem_type", 12, SET_MEM_TYPE_STRUCT, changes=True)
INJECT_EVENT = Operation(DM_OP, "inject_event", 13, INJECT_EVENT_STRUCT, changes=True)
INJECT_MSI = Operation(DM_OP, "inject_msi", 14, INJECT_MSI_STRUCT, changes=True)
REMOTE_SHUTDOWN = Operation(DM_OP, "remote_shutdown", 16, REMOTE_SHUTDOWN_STRUCT, changes=True)
NR_VCPUS = Operation(DM_OP, "nr_vcpus", 20, NR_VCPUS_STRUCT, changes=False)
