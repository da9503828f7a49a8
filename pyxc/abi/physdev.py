# SPDX-License-Identifier: MIT
"""physdev_op (public/physdev.h): interrupts of devices. Its structures depend on the kernel's word size."""

from __future__ import annotations

from enum import IntEnum

from pyxc.abi.layout import S32, U16, U64, Row, Table, pad
from pyxc.abi.operation import PHYSDEV_OP, Operation


class MapPirqType(IntEnum):
    """map_pirq.type (MAP_PIRQ_TYPE_*)."""

    MSI = 0
    GSI = 1
    UNKNOWN = 2
    MSI_SEG = 3
    """Since 4.2."""
    MULTI_MSI = 4
    """Since 4.4."""


MAP_PIRQ_STRUCT = Table(
    "physdev_map_pirq", "xen",
    Row("domid",      U16),
    pad(2),
    Row("type",       S32),
    Row("index",      S32),
    Row("pirq",       S32),
    Row("bus",        S32),
    Row("devfn",      S32),
    Row("entry_nr",   S32),
    pad(4),
    Row("table_base", U64),
    start=(3, 3),
)  # fmt: skip

UNMAP_PIRQ_STRUCT = Table(
    "physdev_unmap_pirq", "xen",
    Row("domid", U16),
    pad(2),
    Row("pirq",  S32),
    start=(3, 3),
)  # fmt: skip

MAP_PIRQ = Operation(PHYSDEV_OP, "map_pirq", 13, MAP_PIRQ_STRUCT, changes=True)
UNMAP_PIRQ = Operation(PHYSDEV_OP, "unmap_pirq", 14, UNMAP_PIRQ_STRUCT, changes=True)
