# SPDX-License-Identifier: MIT
"""domctl scheduler_op (public/domctl.h): a domain's and its vcpus' share of the cpus.

Each scheduler has its own parameters in the same place, so each has separate operations here.
"""

from __future__ import annotations

from enum import IntEnum

from pyxc.abi.domctl import Scheduler
from pyxc.abi.flags import Flags
from pyxc.abi.layout import HANDLE, U16, U32, Row, Table, pad
from pyxc.abi.operation import DOMCTL, Operation, Stride


class SchedulerOp(IntEnum):
    """scheduler_op.cmd (XEN_DOMCTL_SCHEDOP_*)."""

    PUTINFO = 0
    GETINFO = 1
    PUTVCPUINFO = 2
    """Since 4.7, as is GETVCPUINFO."""
    GETVCPUINFO = 3


class RtdsFlag(Flags):
    """flags of rtds (XEN_DOMCTL_SCHEDRT_*), since 4.10."""

    EXTRA = 1 << 0


# The operation is `op` here, because the envelope also has a `cmd`.
_WHICH = (Row("sched_id", U32), Row("op", U32))
_WITH_VCPUS = (0xB, (4, 7))
"""4.6 and 4.7 have the same interface number; 4.7 added space for arrays of vcpus."""

SCHEDULER_OP_CREDIT_STRUCT = Table(
    "xen_domctl_scheduler_op", "domctl",
    *_WHICH,
    Row("u.credit.weight", U16),
    Row("u.credit.cap",    U16),
    pad(28, stop=0xB),
    pad(4, start=0xB, stop=_WITH_VCPUS),
    pad(12, start=_WITH_VCPUS),
)  # fmt: skip

SCHEDULER_OP_CREDIT2_STRUCT = Table(
    "xen_domctl_scheduler_op", "domctl",
    *_WHICH,
    Row("u.credit2.weight", U16),
    Row("u.credit2.cap",    U16, start=0xE),
    pad(2, stop=0xE),
    pad(28, stop=0xB),
    pad(4, start=0xB, stop=_WITH_VCPUS),
    pad(12, start=_WITH_VCPUS),
    start=0x7,
)  # fmt: skip

SCHEDULER_OP_RTDS_STRUCT = Table(
    "xen_domctl_scheduler_op", "domctl",
    *_WHICH,
    Row("u.rtds.period", U32),
    Row("u.rtds.budget", U32),
    Row("u.rtds.flags",  U32, start=0xE),
    pad(24, stop=0xB),
    pad(8, start=_WITH_VCPUS, stop=0xE),
    pad(4, start=0xE),
    start=0xA,
)  # fmt: skip

SCHEDULER_OP_VCPUS_STRUCT = Table(
    "xen_domctl_scheduler_op", "domctl",
    *_WHICH,
    Row("u.v.vcpus",    HANDLE),
    Row("u.v.nr_vcpus", U32),
    pad(4),
    start=_WITH_VCPUS,
)  # fmt: skip

SCHEDPARAM_VCPU_RTDS_STRUCT = Table(
    "xen_domctl_schedparam_vcpu", "domctl",
    Row("u.rtds.period", U32),
    Row("u.rtds.budget", U32),
    Row("u.rtds.flags",  U32, start=0xE),
    Row("vcpuid",        U32),
    start=_WITH_VCPUS,
)  # fmt: skip


def _operation(name: str, body: Table, scheduler: Scheduler, op: SchedulerOp) -> Operation:
    changes = op in (SchedulerOp.PUTINFO, SchedulerOp.PUTVCPUINFO)
    fixed = {"sched_id": scheduler, "op": op}
    strides = {"u.v.vcpus": Stride(SCHEDPARAM_VCPU_RTDS_STRUCT, "u.v.nr_vcpus")}
    return Operation(
        DOMCTL, f"scheduler_op_{name}", 16, body, changes=changes, fixed=fixed,
        strides=strides if body is SCHEDULER_OP_VCPUS_STRUCT else None,
    )  # fmt: skip


SCHEDULER_OP_GETINFO_CREDIT = _operation(
    "getinfo_credit", SCHEDULER_OP_CREDIT_STRUCT, Scheduler.CREDIT, SchedulerOp.GETINFO
)
SCHEDULER_OP_PUTINFO_CREDIT = _operation(
    "putinfo_credit", SCHEDULER_OP_CREDIT_STRUCT, Scheduler.CREDIT, SchedulerOp.PUTINFO
)
SCHEDULER_OP_GETINFO_CREDIT2 = _operation(
    "getinfo_credit2", SCHEDULER_OP_CREDIT2_STRUCT, Scheduler.CREDIT2, SchedulerOp.GETINFO
)
SCHEDULER_OP_PUTINFO_CREDIT2 = _operation(
    "putinfo_credit2", SCHEDULER_OP_CREDIT2_STRUCT, Scheduler.CREDIT2, SchedulerOp.PUTINFO
)
SCHEDULER_OP_GETINFO_RTDS = _operation(
    "getinfo_rtds", SCHEDULER_OP_RTDS_STRUCT, Scheduler.RTDS, SchedulerOp.GETINFO
)
SCHEDULER_OP_PUTINFO_RTDS = _operation(
    "putinfo_rtds", SCHEDULER_OP_RTDS_STRUCT, Scheduler.RTDS, SchedulerOp.PUTINFO
)
SCHEDULER_OP_GETVCPUINFO_RTDS = _operation(
    "getvcpuinfo_rtds", SCHEDULER_OP_VCPUS_STRUCT, Scheduler.RTDS, SchedulerOp.GETVCPUINFO
)
SCHEDULER_OP_PUTVCPUINFO_RTDS = _operation(
    "putvcpuinfo_rtds", SCHEDULER_OP_VCPUS_STRUCT, Scheduler.RTDS, SchedulerOp.PUTVCPUINFO
)
