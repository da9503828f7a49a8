# SPDX-License-Identifier: MIT
"""sysctl cpupool_op (public/sysctl.h): cpu pools, each with a scheduler and domains of its own."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.domctl import BITMAP_STRUCT
from pyxc.abi.errno import XenErrno
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


_NO_POOL = "no such cpu pool"


def _operation(op: CpupoolOp, changes: bool, **hints: str) -> Operation:
    """`hints` by the name of the errno."""
    name = f"cpupool_op_{op.name.lower()}"
    meanings: dict[int, str] = {XenErrno[errno]: text for errno, text in hints.items()}
    return Operation(SYSCTL, name, 18, CPUPOOL_OP_STRUCT, changes=changes, fixed={"op": op}, hints=meanings)


CPUPOOL_OP_CREATE = _operation(
    CpupoolOp.CREATE, changes=True, ENOENT="this hypervisor was built without this scheduler"
)
CPUPOOL_OP_DESTROY = _operation(
    CpupoolOp.DESTROY, changes=True, ENOENT=_NO_POOL, EBUSY="the pool has cpus or domains"
)
CPUPOOL_OP_INFO = _operation(CpupoolOp.INFO, changes=False, ENOENT=_NO_POOL)
CPUPOOL_OP_ADDCPU = _operation(
    CpupoolOp.ADDCPU, changes=True, ENOENT=_NO_POOL, ENODEV="the cpu belongs to a pool, or no cpu is free"
)
CPUPOOL_OP_RMCPU = _operation(
    CpupoolOp.RMCPU,
    changes=True,
    ENOENT=_NO_POOL,
    EADDRNOTAVAIL="the cpu is not in this pool",
    EBUSY="it is the pool's last cpu, and the pool has domains",
    EINVAL="the pool needs this cpu",
)
CPUPOOL_OP_MOVEDOMAIN = _operation(
    CpupoolOp.MOVEDOMAIN,
    changes=True,
    ENOENT="no such cpu pool, or it has no cpu",
    EPERM="the calling domain cannot be moved",
)
CPUPOOL_OP_FREEINFO = _operation(CpupoolOp.FREEINFO, changes=False)
