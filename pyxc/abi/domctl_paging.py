# SPDX-License-Identifier: MIT
"""domctl shadow_op and paging_mempool (public/domctl.h): Xen's own page tables, and log-dirty mode.

shadow_op is one command for several things, each of which is a separate operation here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from pyxc.abi.errno import XenErrno
from pyxc.abi.flags import Flags
from pyxc.abi.layout import HANDLE, U32, U64, Row, Table, nested, pad
from pyxc.abi.operation import DOMCTL, Operation


class ShadowOp(IntEnum):
    """shadow_op.op (XEN_DOMCTL_SHADOW_OP_*)."""

    OFF = 0
    ENABLE_TEST = 1
    ENABLE_LOGDIRTY = 2
    ENABLE_TRANSLATE = 3
    """To 4.6."""
    CLEAN = 11
    PEEK = 12
    GET_ALLOCATION = 30
    SET_ALLOCATION = 31
    ENABLE = 32


class ShadowMode(Flags):
    """shadow_op.mode of ENABLE (XEN_DOMCTL_SHADOW_ENABLE_*)."""

    REFCOUNT = 1 << 1
    LOG_DIRTY = 1 << 2
    TRANSLATE = 1 << 3
    EXTERNAL = 1 << 4


LOGDIRTY_FINAL: Final = 1 << 0
"""shadow_op.mode of CLEAN and PEEK, since 4.7: the domain has stopped; includes its device model's pages."""

SHADOW_OP_STATS_STRUCT = Table(
    "xen_domctl_shadow_op_stats", "domctl",
    Row("fault_count", U32),
    Row("dirty_count", U32),
)  # fmt: skip

SHADOW_OP_STRUCT = Table(
    "xen_domctl_shadow_op", "domctl",
    Row("op",           U32),
    Row("mode",         U32),
    Row("mb",           U32),
    pad(4),
    Row("dirty_bitmap", HANDLE),
    Row("pages",        U64),
    *nested("stats", SHADOW_OP_STATS_STRUCT),
)  # fmt: skip

PAGING_MEMPOOL_STRUCT = Table("xen_domctl_paging_mempool", "domctl", Row("size", U64), start=0x15)


def _shadow_op(
    name: str, op: ShadowOp, changes: bool = True, hints: Mapping[int, str] | None = None
) -> Operation:
    return Operation(
        DOMCTL, f"shadow_op_{name}", 10, SHADOW_OP_STRUCT, changes=changes, fixed={"op": op}, hints=hints
    )


SHADOW_OP = Operation(DOMCTL, "shadow_op", 10, SHADOW_OP_STRUCT, changes=True)
"""Any of them, by `op`."""
SHADOW_OP_OFF = _shadow_op("off", ShadowOp.OFF)
SHADOW_OP_ENABLE_TEST = _shadow_op("enable_test", ShadowOp.ENABLE_TEST)
SHADOW_OP_ENABLE_LOGDIRTY = _shadow_op(
    "enable_logdirty",
    ShadowOp.ENABLE_LOGDIRTY,
    hints={
        XenErrno.EINVAL: "log-dirty mode is already on (disable() ends it), "
        "or it is this domain, or has a PCI device"
    },
)
SHADOW_OP_CLEAN = _shadow_op("clean", ShadowOp.CLEAN)
SHADOW_OP_PEEK = _shadow_op("peek", ShadowOp.PEEK, changes=False)
SHADOW_OP_GET_ALLOCATION = _shadow_op("get_allocation", ShadowOp.GET_ALLOCATION, changes=False)
SHADOW_OP_SET_ALLOCATION = _shadow_op("set_allocation", ShadowOp.SET_ALLOCATION)
SHADOW_OP_ENABLE = _shadow_op("enable", ShadowOp.ENABLE)
GET_PAGING_MEMPOOL_SIZE = Operation(
    DOMCTL, "get_paging_mempool_size", 85, PAGING_MEMPOOL_STRUCT, changes=False
)
SET_PAGING_MEMPOOL_SIZE = Operation(
    DOMCTL, "set_paging_mempool_size", 86, PAGING_MEMPOOL_STRUCT, changes=True
)
