# SPDX-License-Identifier: MIT
"""sched_op (public/sched.h): shutting another domain down."""

from __future__ import annotations

from enum import IntEnum

from pyxc.abi.layout import U16, U32, Row, Table, pad
from pyxc.abi.operation import SCHED_OP, Operation


class ShutdownReason(IntEnum):
    """Why a domain shut down (SHUTDOWN_*)."""

    POWEROFF = 0
    REBOOT = 1
    SUSPEND = 2
    CRASH = 3
    WATCHDOG = 4
    SOFT_RESET = 5


REMOTE_SHUTDOWN_STRUCT = Table(
    "sched_remote_shutdown", "xen",
    Row("domain_id", U16),
    pad(2),
    Row("reason",    U32),
)  # fmt: skip

REMOTE_SHUTDOWN = Operation(SCHED_OP, "remote_shutdown", 4, REMOTE_SHUTDOWN_STRUCT, changes=True)
