# SPDX-License-Identifier: MIT
"""domctl debug_op and gdbsx_* (public/domctl.h): stepping a vcpu, holding it, and why a domain stopped."""

from __future__ import annotations

from enum import IntEnum

from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import U8, U32, Row, Table, pad
from pyxc.abi.operation import DOMCTL, Operation


class DebugOp(IntEnum):
    """What debug_op does: whether the vcpu stops after each instruction."""

    SINGLE_STEP_OFF = 0
    SINGLE_STEP_ON = 1


DEBUG_OP_STRUCT = Table(
    "xen_domctl_debug_op", "domctl",
    Row("op",   U32),
    Row("vcpu", U32),
    start=(0x5, (3, 4)),
)  # fmt: skip

GDBSX_PAUSEUNP_VCPU_STRUCT = Table("xen_domctl_gdbsx_pauseunp_vcpu", "domctl", Row("vcpu", U32), start=0x6)

GDBSX_DOMSTATUS_STRUCT = Table(
    "xen_domctl_gdbsx_domstatus", "domctl",
    Row("paused",   U8),
    pad(3),
    Row("vcpu_id",  U32),
    Row("vcpu_ev",  U32),
    start=0x6,
)  # fmt: skip

NO_VCPU = 2**32 - 1
"""`vcpu_id` if no vcpu has met a breakpoint."""

_HELD: dict[int, str] = {
    XenErrno.EBUSY: "no toolstack has paused the domain",
    XenErrno.EINVAL: "the domain has no such vcpu, or no debugger holds it",
    XenErrno.ENOSYS: "this Xen was built without CONFIG_GDBSX",
}

DEBUG_OP = Operation(
    DOMCTL, "debug_op", 54, DEBUG_OP_STRUCT, changes=True,
    hints={XenErrno.EOPNOTSUPP: "this processor has no monitor trap flag (Intel's have)"},
)  # fmt: skip
"""For HVM and PVH. Each stop pauses the domain once more while it is debugged."""
GDBSX_PAUSEVCPU = Operation(
    DOMCTL, "gdbsx_pausevcpu", 1001, GDBSX_PAUSEUNP_VCPU_STRUCT, changes=True, hints=_HELD
)
GDBSX_UNPAUSEVCPU = Operation(
    DOMCTL, "gdbsx_unpausevcpu", 1002, GDBSX_PAUSEUNP_VCPU_STRUCT, changes=True, hints=_HELD
)
GDBSX_DOMSTATUS = Operation(
    DOMCTL, "gdbsx_domstatus", 1003, GDBSX_DOMSTATUS_STRUCT, changes=True, hints=_HELD
)
"""Names one vcpu that met a breakpoint, and forgets that it did."""
