# SPDX-License-Identifier: MIT
"""domctl *_permission and memory_mapping (public/domctl.h): the hardware that a domain may use."""

from __future__ import annotations

from pyxc.abi.former import former
from pyxc.abi.layout import BOOL, U8, U32, U64, Row, Table, pad
from pyxc.abi.operation import DOMCTL, Operation

IRQ_PERMISSION_STRUCT = Table(
    "xen_domctl_irq_permission", "domctl",
    Row("pirq",         U8, stop=0x14),
    Row("pirq",         U32, start=0x14),
    Row("allow_access", BOOL),
    pad(3, start=0x14),
)  # fmt: skip

IOMEM_PERMISSION_STRUCT = Table(
    "xen_domctl_iomem_permission", "domctl",
    Row("first_mfn",    U64),
    Row("nr_mfns",      U64),
    Row("allow_access", BOOL),
    pad(7),
)  # fmt: skip

IOPORT_PERMISSION_STRUCT = Table(
    "xen_domctl_ioport_permission", "domctl",
    Row("first_port",   U32),
    Row("nr_ports",     U32),
    Row("allow_access", BOOL),
    pad(3),
)  # fmt: skip

GSI_PERMISSION_STRUCT = Table(
    "xen_domctl_gsi_permission", "domctl",
    Row("gsi",   U32),
    Row("flags", U32),  # 1 grants (XEN_DOMCTL_GSI_GRANT), 0 revokes
    start=(0x17, (4, 20)),
)  # fmt: skip

MEMORY_MAPPING_STRUCT = Table(
    "xen_domctl_memory_mapping", "domctl",
    Row("first_gfn",   U64),
    Row("first_mfn",   U64),
    Row("nr_mfns",     U64),
    Row("add_mapping", U32),
    pad(4),
    start=(0x5, (3, 2)),
)  # fmt: skip

IRQ_PERMISSION = Operation(
    DOMCTL, "irq_permission", 19, IRQ_PERMISSION_STRUCT, changes=True, before=former("IRQ_PERMISSION")
)
IOMEM_PERMISSION = Operation(
    DOMCTL, "iomem_permission", 20, IOMEM_PERMISSION_STRUCT, changes=True, before=former("IOMEM_PERMISSION")
)
IOPORT_PERMISSION = Operation(
    DOMCTL,
    "ioport_permission",
    21,
    IOPORT_PERMISSION_STRUCT,
    changes=True,
    before=former("IOPORT_PERMISSION"),  # fmt: skip
)
MEMORY_MAPPING = Operation(DOMCTL, "memory_mapping", 39, MEMORY_MAPPING_STRUCT, changes=True)
GSI_PERMISSION = Operation(DOMCTL, "gsi_permission", 88, GSI_PERMISSION_STRUCT, changes=True)
