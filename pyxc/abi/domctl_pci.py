# SPDX-License-Identifier: MIT
"""domctl *assign_device (public/domctl.h): PCI devices that are assigned to a domain.

A device is one number: bus << 16 | device << 11 | function << 8 in `machine_bdf` up to 4.1, since then
segment << 16 | bus << 8 | device << 3 | function in `machine_sbdf`. `sdev_array` still has the former.
"""

from __future__ import annotations

from typing import Final

from pyxc.abi.layout import HANDLE, U32, Row, Table, pad
from pyxc.abi.operation import DOMCTL, Operation

DEV_PCI: Final = 0
"""`dev`: a PCI device, not one of a device tree (Arm)."""
DEV_RDM_RELAXED: Final = 1
"""`flags`: accept a device even if the guest has memory in its reserved ranges."""

ASSIGN_DEVICE_STRUCT = Table(
    "xen_domctl_assign_device", "domctl",
    Row("machine_bdf",        U32, stop=0x8),
    Row("machine_sbdf",       U32, start=0x8, stop=0xB),
    Row("dev",                U32, start=0xB),
    pad(4, start=0xB, stop=0xE),
    Row("flags",              U32, start=0xE),
    Row("u.pci.machine_sbdf", U32, start=0xB),
    pad(12, start=0xB),
    Row("flag",               U32, start=0xB, stop=0xE),
    pad(4, start=0xB, stop=0xE),
    start=(0x5, (3, 2)),
)  # fmt: skip

GET_DEVICE_GROUP_STRUCT = Table(
    "xen_domctl_get_device_group", "domctl",
    Row("machine_bdf",  U32, stop=0x8),
    Row("machine_sbdf", U32, start=0x8),
    Row("max_sdevs",    U32),
    Row("num_sdevs",    U32),
    pad(4),
    Row("sdev_array",   HANDLE),
    start=(0x5, (3, 3)),
)  # fmt: skip

ASSIGN_DEVICE = Operation(DOMCTL, "assign_device", 37, ASSIGN_DEVICE_STRUCT, changes=True)
TEST_ASSIGN_DEVICE = Operation(DOMCTL, "test_assign_device", 45, ASSIGN_DEVICE_STRUCT, changes=False)
DEASSIGN_DEVICE = Operation(
    DOMCTL, "deassign_device", 47, ASSIGN_DEVICE_STRUCT, changes=True, start=(0x5, (3, 3))
)
GET_DEVICE_GROUP = Operation(DOMCTL, "get_device_group", 50, GET_DEVICE_GROUP_STRUCT, changes=False)
