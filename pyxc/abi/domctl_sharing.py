# SPDX-License-Identifier: MIT
"""domctl mem_sharing_op (public/domctl.h): whether a domain may share pages with others."""

from __future__ import annotations

from typing import Final

from pyxc.abi.layout import BOOL, U8, Row, Table, pad
from pyxc.abi.operation import DOMCTL, Operation

MEM_SHARING_CONTROL: Final = 0

MEM_SHARING_OP_STRUCT = Table(
    "xen_domctl_mem_sharing_op", "domctl",
    Row("op",       U8),
    pad(7, stop=0x8),
    Row("u.enable", BOOL),
    pad(15, stop=0x8),
    start=0x6,
)  # fmt: skip

MEM_SHARING_OP_CONTROL = Operation(
    DOMCTL, "mem_sharing_op_control", 57, MEM_SHARING_OP_STRUCT, changes=True,
    fixed={"op": MEM_SHARING_CONTROL},
)  # fmt: skip
