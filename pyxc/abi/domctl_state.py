# SPDX-License-Identifier: MIT
"""domctl get_domain_state (public/domctl.h): the one domctl whose structure is the same in all releases."""

from __future__ import annotations

from pyxc.abi.errno import XenErrno
from pyxc.abi.flags import Flags
from pyxc.abi.layout import U16, U64, Row, Table, pad
from pyxc.abi.operation import DOMCTL, Operation


class StateFlag(Flags):
    """get_domain_state.state (XEN_DOMCTL_GETDOMSTATE_STATE_*)."""

    EXIST = 1 << 0
    SHUTDOWN = 1 << 1
    DYING = 1 << 2
    DEAD = 1 << 3


class StateCap(Flags):
    """get_domain_state.caps (XEN_DOMCTL_GETDOMSTATE_CAP_*): the role of a domain on the host."""

    CONTROL = 1 << 0
    HARDWARE = 1 << 1
    XENSTORE = 1 << 2


GET_DOMAIN_STATE_STRUCT = Table(
    "xen_domctl_get_domain_state", "domctl",
    Row("state",     U16),
    Row("caps",      U16),
    pad(4),
    Row("unique_id", U64),
    start=(0x17, (4, 21)),
)  # fmt: skip

GET_DOMAIN_STATE = Operation(
    DOMCTL, "get_domain_state", 90, GET_DOMAIN_STATE_STRUCT, changes=False, stable=True,
    hints={
        XenErrno.EACCES: "only the domain that handles VIRQ_DOM_EXC may ask which domains changed",
        XenErrno.ENOENT: "no domain has changed",
    },
)  # fmt: skip
"""For one domain. With DOMID_INVALID it would take the next change from xenstored, which waits for it."""
