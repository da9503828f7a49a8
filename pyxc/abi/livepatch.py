# SPDX-License-Identifier: MIT
"""sysctl livepatch_op (public/sysctl.h): patches of the running hypervisor, since sysctl 0xD (Xen 4.7)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import HANDLE, S32, U16, U32, U64, Row, Table, pad
from pyxc.abi.operation import SYSCTL, Operation, Stride


class LivepatchOp(IntEnum):
    """livepatch_op.cmd (XEN_SYSCTL_LIVEPATCH_*)."""

    UPLOAD = 0
    GET = 1
    LIST = 2
    ACTION = 3


class Action(IntEnum):
    """action.cmd (LIVEPATCH_ACTION_*)."""

    UNLOAD = 1
    REVERT = 2
    APPLY = 3
    REPLACE = 4


class State(IntEnum):
    """The state of a patch (LIVEPATCH_STATE_*)."""

    CHECKED = 1
    APPLIED = 2


XEN_LIVEPATCH_NAME_SIZE: Final = 128
"""Bytes of the longest name, its NUL included."""
PAYLOAD_BYTES_MOST: Final = 2 << 20
"""The largest file that Xen takes (LIVEPATCH_MAX_SIZE in its sources)."""
LIVEPATCH_ACTION_APPLY_NODEPS: Final = 1
"""action.flags: apply a patch that was made for another stack of patches."""

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

UPLOAD_STRUCT = Table(
    "xen_sysctl_livepatch_op", "sysctl",
    *_HEAD,
    Row("u.upload.name.name", HANDLE),
    Row("u.upload.name.size", U16),
    pad(6),
    Row("u.upload.size",      U64),
    Row("u.upload.payload",   HANDLE),
    pad(8, stop=0x13),
    pad(32, start=0x13),
    start=0xD,
)  # fmt: skip

ACTION_STRUCT = Table(
    "xen_sysctl_livepatch_op", "sysctl",
    *_HEAD,
    Row("u.action.name.name", HANDLE),
    Row("u.action.name.size", U16),
    pad(6),
    Row("u.action.cmd",       U32),
    Row("u.action.timeout",   U32),
    Row("u.action.flags",     U32, start=0x13),
    pad(4, start=0x13),
    pad(16, stop=0x13),
    pad(32, start=0x13),
    start=0xD,
)  # fmt: skip

_UNKNOWN: dict[int, str] = {XenErrno.ENOENT: "no live patch has this name"}

LIVEPATCH_OP_UPLOAD = Operation(
    SYSCTL, "livepatch_op_upload", 27, UPLOAD_STRUCT, changes=True, fixed={"op": LivepatchOp.UPLOAD},
    hints={
        XenErrno.EEXIST: "a live patch has this name already",
        XenErrno.EINVAL: "it is not a live patch for this hypervisor",
    },
)  # fmt: skip
LIVEPATCH_OP_ACTION = Operation(
    SYSCTL, "livepatch_op_action", 27, ACTION_STRUCT, changes=True, fixed={"op": LivepatchOp.ACTION},
    hints={
        **_UNKNOWN,
        XenErrno.EBUSY: "another action is in progress, or other patches were applied after this one",
        XenErrno.EINVAL: "it must be reverted first, or it depends on other patches",
    },
)  # fmt: skip
LIVEPATCH_OP_GET = Operation(
    SYSCTL, "livepatch_op_get", 27, GET_STRUCT, changes=False, fixed={"op": LivepatchOp.GET},
    hints=_UNKNOWN,
)  # fmt: skip
LIVEPATCH_OP_LIST = Operation(
    SYSCTL, "livepatch_op_list", 27, LIST_STRUCT, changes=False, fixed={"op": LivepatchOp.LIST},
    strides={"u.list.status": Stride(STATUS_STRUCT, "")},
)  # fmt: skip
