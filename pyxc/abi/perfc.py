# SPDX-License-Identifier: MIT
"""sysctl perfc_op (public/sysctl.h): the counters of a hypervisor that was built with them."""

from __future__ import annotations

from enum import IntEnum

from pyxc.abi.layout import HANDLE, U8, U32, Row, Table, pad
from pyxc.abi.operation import SYSCTL, Operation, Stride


class PerfcOp(IntEnum):
    """perfc_op.cmd (XEN_SYSCTL_PERFCOP_*)."""

    RESET = 1
    QUERY = 2


# `op` is the header's `cmd`, because the envelope also has a `cmd`.
PERFC_OP_STRUCT = Table(
    "xen_sysctl_perfc_op", "sysctl",
    Row("op",          U32),
    Row("nr_counters", U32),
    Row("nr_vals",     U32),
    pad(4),
    Row("desc",        HANDLE),
    Row("val",         HANDLE),
)  # fmt: skip

DESC_STRUCT = Table(
    "xen_sysctl_perfc_desc", "sysctl",
    Row("name",    U8, 80),
    Row("nr_vals", U32),
)  # fmt: skip

PERFC_OP_RESET = Operation(
    SYSCTL, "perfc_op_reset", 5, PERFC_OP_STRUCT, changes=True, fixed={"op": PerfcOp.RESET}
)
PERFC_OP_QUERY = Operation(
    SYSCTL, "perfc_op_query", 5, PERFC_OP_STRUCT, changes=False, fixed={"op": PerfcOp.QUERY},
    strides={"desc": Stride(DESC_STRUCT, "nr_counters")},
)  # fmt: skip
