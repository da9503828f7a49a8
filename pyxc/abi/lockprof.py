# SPDX-License-Identifier: MIT
"""sysctl lockprof_op (public/sysctl.h): the locks of a hypervisor that was built with lock profiling."""

from __future__ import annotations

from enum import IntEnum

from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import HANDLE, S32, U8, U32, U64, Row, Table, pad
from pyxc.abi.operation import SYSCTL, Operation, Stride


class LockprofOp(IntEnum):
    """lockprof_op.cmd (XEN_SYSCTL_LOCKPROF_*)."""

    RESET = 1
    QUERY = 2


class LockType(IntEnum):
    """What a lock belongs to (LOCKPROF_TYPE_*)."""

    GLOBAL = 0
    PERDOM = 1


# `op` is the header's `cmd`, because the envelope also has a `cmd`.
LOCKPROF_OP_STRUCT = Table(
    "xen_sysctl_lockprof_op", "sysctl",
    Row("op",       U32),
    Row("max_elem", U32),
    Row("nr_elem",  U32),
    pad(4),
    Row("time",     U64),
    Row("data",     HANDLE),
    start=0x7,
)  # fmt: skip

LOCKPROF_DATA_STRUCT = Table(
    "xen_sysctl_lockprof_data", "sysctl",
    Row("name",       U8, 40),
    Row("type",       S32),
    Row("idx",        S32),
    Row("lock_cnt",   U64),
    Row("block_cnt",  U64),
    Row("lock_time",  U64),
    Row("block_time", U64),
    start=0x7,
)  # fmt: skip

_HINTS: dict[int, str] = {
    XenErrno.ENOSYS: "this hypervisor was built without lock profiling (CONFIG_DEBUG_LOCK_PROFILE)"
}

LOCKPROF_OP_RESET = Operation(
    SYSCTL, "lockprof_op_reset", 15, LOCKPROF_OP_STRUCT, changes=True, fixed={"op": LockprofOp.RESET},
    hints=_HINTS,
)  # fmt: skip
LOCKPROF_OP_QUERY = Operation(
    SYSCTL, "lockprof_op_query", 15, LOCKPROF_OP_STRUCT, changes=False, fixed={"op": LockprofOp.QUERY},
    strides={"data": Stride(LOCKPROF_DATA_STRUCT, "nr_elem")}, hints=_HINTS,
)  # fmt: skip
