# SPDX-License-Identifier: MIT
"""xsm_op (public/xsm/flask_op.h): the security policy of a hypervisor with FLASK. Its interface number is 1.

Up to Xen 4.1 the same hypercall used text; those releases have none of these operations.
"""

from __future__ import annotations

from typing import Final

from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import HANDLE, U8, U32, Row, Table, pad
from pyxc.abi.operation import XSM_OP, Operation

BOOL_BY_NAME: Final = 0xFFFFFFFF
"""boolean.bool_id of a boolean that is looked up by its name."""
POLICY_BYTES_MOST: Final = 0x4000000
"""The largest policy that a hypervisor accepts."""
CONTEXT_BYTES_MOST: Final = 4096
"""The longest context that it accepts."""


LOAD_STRUCT = Table(
    "xen_flask_op.u.load", "xen",
    Row("buffer", HANDLE),
    Row("size",   U32),
    pad(4),
    start=(4, 2),
)  # fmt: skip

SETENFORCE_STRUCT = Table("xen_flask_op.u.enforce", "xen", Row("enforcing", U32), start=(4, 2))

SID_CONTEXT_STRUCT = Table(
    "xen_flask_op.u.sid_context", "xen",
    Row("sid",     U32),
    Row("size",    U32),
    Row("context", HANDLE),
    start=(4, 2),
)  # fmt: skip

ACCESS_STRUCT = Table(
    "xen_flask_op.u.access", "xen",
    Row("ssid",        U32),
    Row("tsid",        U32),
    Row("tclass",      U32),
    Row("req",         U32),
    Row("allowed",     U32),
    Row("audit_allow", U32),
    Row("audit_deny",  U32),
    Row("seqno",       U32),
    start=(4, 2),
)  # fmt: skip

BOOLEAN_STRUCT = Table(
    "xen_flask_op.u.boolean", "xen",
    Row("bool_id",   U32),
    Row("enforcing", U8),
    Row("pending",   U8),
    Row("new_value", U8),
    Row("commit",    U8),
    Row("size",      U32),
    pad(4),
    Row("name",      HANDLE),
    start=(4, 2),
)  # fmt: skip

RELABEL_STRUCT = Table(
    "xen_flask_op.u.relabel", "xen",
    Row("domid", U32),
    Row("sid",   U32),
    start=(4, 3),
)  # fmt: skip

_NO_POLICY: Final[dict[int, str]] = {
    XenErrno.ENOSYS: "this hypervisor has no security policy: it was built without FLASK"
}
_NOT_READ: Final = _NO_POLICY | {XenErrno.EINVAL: "this hypervisor does not take the file for a policy"}


def _operation(
    name: str,
    command: int,
    structure: Table | None = None,
    *,
    changes: bool,
    start: tuple[int, int] = (4, 2),
    hints: dict[int, str] = _NO_POLICY,
) -> Operation:
    return Operation(XSM_OP, name, command, structure, changes=changes, start=start, hints=hints)


LOAD = _operation("load", 1, LOAD_STRUCT, changes=True, hints=_NOT_READ)
GETENFORCE = _operation("getenforce", 2, changes=False)
SETENFORCE = _operation("setenforce", 3, SETENFORCE_STRUCT, changes=True)
CONTEXT_TO_SID = _operation("context_to_sid", 4, SID_CONTEXT_STRUCT, changes=False)
SID_TO_CONTEXT = _operation("sid_to_context", 5, SID_CONTEXT_STRUCT, changes=False)
ACCESS = _operation("access", 6, ACCESS_STRUCT, changes=False)
POLICYVERS = _operation("policyvers", 10, changes=False)
GETBOOL = _operation("getbool", 11, BOOLEAN_STRUCT, changes=False)
SETBOOL = _operation("setbool", 12, BOOLEAN_STRUCT, changes=True)
COMMITBOOLS = _operation("commitbools", 13, changes=True)
RELABEL_DOMAIN = _operation("relabel_domain", 24, RELABEL_STRUCT, changes=True, start=(4, 3))
