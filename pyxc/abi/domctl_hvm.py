# SPDX-License-Identifier: MIT
"""domctl hvmcontext (public/domctl.h): the state of a domain's virtual hardware; see hvm_save."""

from __future__ import annotations

from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import HANDLE, U32, U64, Row, Table, pad
from pyxc.abi.operation import DOMCTL, Operation

HVMCONTEXT_STRUCT = Table(
    "xen_domctl_hvmcontext", "domctl",
    Row("size",   U32),
    pad(4),
    Row("buffer", HANDLE),
)  # fmt: skip

HVMCONTEXT_PARTIAL_STRUCT = Table(
    "xen_domctl_hvmcontext_partial", "domctl",
    Row("type",     U32),
    Row("instance", U32),
    Row("bufsz",    U64, start=0xE),
    Row("buffer",   HANDLE),
    start=(0x5, (3, 4)),
)  # fmt: skip

_NO_RECORD = "the domain has no such record"
_NO_CONTEXT = "only HVM and PVH domains have an HVM context"

GETHVMCONTEXT = Operation(
    DOMCTL, "gethvmcontext", 33, HVMCONTEXT_STRUCT, changes=False,
    hints={XenErrno.EINVAL: _NO_CONTEXT},
)  # fmt: skip
SETHVMCONTEXT = Operation(DOMCTL, "sethvmcontext", 34, HVMCONTEXT_STRUCT, changes=True)
GETHVMCONTEXT_PARTIAL = Operation(
    DOMCTL, "gethvmcontext_partial", 55, HVMCONTEXT_PARTIAL_STRUCT, changes=False,
    hints={XenErrno.ENOENT: _NO_RECORD, XenErrno.ENODATA: _NO_RECORD, XenErrno.EINVAL: _NO_CONTEXT},
)  # fmt: skip
