# SPDX-License-Identifier: MIT
"""sysctl scheduler_op (public/sysctl.h): what a scheduler does in a whole cpu pool."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.domctl import Scheduler
from pyxc.abi.layout import U32, Row, Table, pad
from pyxc.abi.operation import SYSCTL, Operation


class SchedulerOp(IntEnum):
    """scheduler_op.cmd (XEN_SYSCTL_SCHEDOP_*)."""

    PUTINFO = 0
    GETINFO = 1


TSLICE_MIN: Final = 1
TSLICE_MAX: Final = 1000
RATELIMIT_MIN: Final = 100
RATELIMIT_MAX: Final = 500000
MGR_DLY_MAX_US: Final = 100000

# The operation is `op` here, since the envelope has a `cmd`, too.
_WHICH = (Row("cpupool_id", U32), Row("sched_id", U32), Row("op", U32), pad(4))

SCHEDULER_OP_CREDIT_STRUCT = Table(
    "xen_sysctl_scheduler_op", "sysctl",
    *_WHICH,
    Row("u.sched_credit.tslice_ms",          U32),
    Row("u.sched_credit.ratelimit_us",       U32),
    Row("u.sched_credit.vcpu_migr_delay_us", U32, start=0x11),
    pad(4, start=0x11),
    start=0x9,
)  # fmt: skip

SCHEDULER_OP_CREDIT2_STRUCT = Table(
    "xen_sysctl_scheduler_op", "sysctl",
    *_WHICH,
    Row("u.sched_credit2.ratelimit_us", U32),
    pad(4, stop=0x11),
    pad(12, start=0x11),
    start=0xE,
)  # fmt: skip


def _operation(name: str, body: Table, scheduler: Scheduler, op: SchedulerOp) -> Operation:
    fixed = {"sched_id": scheduler, "op": op}
    changes = op is SchedulerOp.PUTINFO
    return Operation(SYSCTL, f"scheduler_op_{name}", 19, body, changes=changes, fixed=fixed)


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
