# SPDX-License-Identifier: MIT
"""sysctl livepatch_op (public/sysctl.h): patches of the running hypervisor, since sysctl 0xD (Xen 4.7)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import HANDLE, S32, U16, U32, Row, Table, pad
from pyxc.abi.operation import SYSCTL, Operation, Stride


class LivepatchOp(IntEnum):
    """livepatch_op.cmd (XEN_SYSCTL_LIVEPATCH_*)."""

    UPLOAD = 0
    GET = 1
    LIST = 2
    ACTION = 3


class State(IntEnum):
    """The state of a patch (LIVEPATCH_STATE_*)."""

    CHECKED = 1
    APPLIED = 2


XEN_LIVEPATCH_NAME_SIZE: Final = 128
"""Bytes of the longest name, its NUL included."""

STATUS_STRUCT = Table(
    "xen_sysctl_livepatch_op.u.get.status", "sysctl",
    Row("state", U32),
    Row("rc",    S32),
    start=0xD,
)  # fmt: skip

# `op` is the header's `cmd`, because the envelope also has a `cmd`.
_HEAD = (
    Row("op",    U32),
    pad(4, stop=(0x15, (4, 19))),
    Row("flags", U32, start=(0x15, (4, 19))),
)  # fmt: skip

LIST_STRUCT = Table(
    "xen_sysctl_livepatch_op", "sysctl",
    *_HEAD,
    Row("u.list.version",             U32),
    Row("u.list.idx",                 U32),
    Row("u.list.nr",                  U32),
    pad(4),
    Row("u.list.name_total_size",     U32, start=0x13),
    Row("u.list.metadata_total_size", U32, start=0x13),
    Row("u.list.status",              HANDLE),
    Row("u.list.name",                HANDLE),
    Row("u.list.len",                 HANDLE),
    Row("u.list.metadata",            HANDLE, start=0x13),
    Row("u.list.metadata_len",        HANDLE, start=0x13),
    start=0xD,
)  # fmt: skip

GET_STRUCT = Table(
    "xen_sysctl_livepatch_op", "sysctl",
    *_HEAD,
    Row("u.get.name.name",    HANDLE),
    Row("u.get.name.size",    U16),
    pad(6),
    Row("u.get.status.state", U32),
    Row("u.get.status.rc",    S32),
    pad(16, stop=0x13),
    pad(40, start=0x13),
    start=0xD,
)  # fmt: skip

LIVEPATCH_OP_GET = Operation(
    SYSCTL, "livepatch_op_get", 27, GET_STRUCT, changes=False, fixed={"op": LivepatchOp.GET},
    hints={XenErrno.ENOENT: "no live patch has this name"},
)  # fmt: skip
LIVEPATCH_OP_LIST = Operation(
    SYSCTL, "livepatch_op_list", 27, LIST_STRUCT, changes=False, fixed={"op": LivepatchOp.LIST},
    strides={"u.list.status": Stride(STATUS_STRUCT, "")},
)  # fmt: skip
