# SPDX-License-Identifier: MIT
"""sysctl cpupool_op (public/sysctl.h): cpu pools, each with a scheduler and domains of its own."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.domctl import BITMAP_STRUCT
from pyxc.abi.layout import U32, Row, Table, nested
from pyxc.abi.operation import SYSCTL, Operation


class CpupoolOp(IntEnum):
    """cpupool_op.op (XEN_SYSCTL_CPUPOOL_OP_*)."""

    CREATE = 1
    DESTROY = 2
    INFO = 3
    ADDCPU = 4
    RMCPU = 5
    MOVEDOMAIN = 6
    FREEINFO = 7


CPUPOOL_ANY: Final = 0xFFFFFFFF
"""A pool or cpu of the hypervisor's choice (XEN_SYSCTL_CPUPOOL_PAR_ANY)."""

CPUPOOL_OP_STRUCT = Table(
    "xen_sysctl_cpupool_op", "sysctl",
    Row("op",         U32),
    Row("cpupool_id", U32),
    Row("sched_id",   U32),
    Row("domid",      U32),
    Row("cpu",        U32),
    Row("n_dom",      U32),
    *nested("cpumap", BITMAP_STRUCT),
    start=0x8,
)  # fmt: skip


def _operation(op: CpupoolOp, changes: bool) -> Operation:
    name = f"cpupool_op_{op.name.lower()}"
    return Operation(SYSCTL, name, 18, CPUPOOL_OP_STRUCT, changes=changes, fixed={"op": op})


CPUPOOL_OP_CREATE = _operation(CpupoolOp.CREATE, changes=True)
CPUPOOL_OP_DESTROY = _operation(CpupoolOp.DESTROY, changes=True)
CPUPOOL_OP_INFO = _operation(CpupoolOp.INFO, changes=False)
CPUPOOL_OP_ADDCPU = _operation(CpupoolOp.ADDCPU, changes=True)
CPUPOOL_OP_RMCPU = _operation(CpupoolOp.RMCPU, changes=True)
CPUPOOL_OP_MOVEDOMAIN = _operation(CpupoolOp.MOVEDOMAIN, changes=True)
CPUPOOL_OP_FREEINFO = _operation(CpupoolOp.FREEINFO, changes=False)
