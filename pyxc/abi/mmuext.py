# SPDX-License-Identifier: MIT
"""mmuext_op (public/xen.h): operations on the page tables of PV domains."""

from __future__ import annotations

from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import HANDLE, U32, U64, Row, Table, pad
from pyxc.abi.operation import MMUEXT_OP, Operation

MMUEXT_STRUCT = Table(
    "mmuext_op", "xen",
    Row("cmd",  U32),
    pad(4),
    Row("arg1", U64),
    Row("arg2", U64),
)  # fmt: skip

# Not a structure of the header, where these are arguments of the hypercall.
ARGUMENTS_STRUCT = Table(
    "mmuext_op_arguments", "xen",
    Row("ops",   HANDLE),
    Row("count", U64),
    Row("done",  HANDLE),
    Row("domid", U64),
)  # fmt: skip

_REFUSED: dict[int, str] = {
    XenErrno.EINVAL: "a page table that is mapped writable, or has an entry that Xen forbids"
}
PIN_L1_TABLE = Operation(MMUEXT_OP, "pin_l1_table", 0, ARGUMENTS_STRUCT, changes=True, hints=_REFUSED)
PIN_L2_TABLE = Operation(MMUEXT_OP, "pin_l2_table", 1, ARGUMENTS_STRUCT, changes=True, hints=_REFUSED)
PIN_L3_TABLE = Operation(MMUEXT_OP, "pin_l3_table", 2, ARGUMENTS_STRUCT, changes=True, hints=_REFUSED)
PIN_L4_TABLE = Operation(MMUEXT_OP, "pin_l4_table", 3, ARGUMENTS_STRUCT, changes=True, hints=_REFUSED)
"""The commands of the entries of the list decide; the operation has that of the first."""
