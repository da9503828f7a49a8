# SPDX-License-Identifier: MIT
"""event_channel_op (public/event_channel.h): events between domains."""

from __future__ import annotations

from enum import IntEnum

from pyxc.abi.layout import U8, U16, U32, Row, Table, pad
from pyxc.abi.operation import EVENT_CHANNEL_OP, Operation


class Status(IntEnum):
    """What a port is bound to (EVTCHNSTAT_*), which selects the STATUS_*_STRUCT for status' `u`."""

    CLOSED = 0
    UNBOUND = 1
    INTERDOMAIN = 2
    PIRQ = 3
    VIRQ = 4
    IPI = 5


class Virq(IntEnum):
    """Interrupts that the hypervisor itself raises (VIRQ_*, public/xen.h)."""

    TIMER = 0
    DEBUG = 1
    CONSOLE = 2
    DOM_EXC = 3
    """A domain has shut down or gone. Only one port can have it: that of xenstored, if there is one."""
    TBUF = 4
    DEBUGGER = 6
    XENOPROF = 7
    CON_RING = 8
    """The hypervisor's console has new text."""
    PCPU_STATE = 9
    MEM_EVENT = 10
    ARGO = 11
    ENOMEM = 12
    """The hypervisor is short of memory."""
    XENPMU = 13
    ARCH_0 = 16
    ARCH_1 = 17
    ARCH_2 = 18
    ARCH_3 = 19
    ARCH_4 = 20
    ARCH_5 = 21
    ARCH_6 = 22
    ARCH_7 = 23


ALLOC_UNBOUND_STRUCT = Table(
    "evtchn_alloc_unbound", "xen",
    Row("dom",        U16),
    Row("remote_dom", U16),
    Row("port",       U32),
)  # fmt: skip

BIND_INTERDOMAIN_STRUCT = Table(
    "evtchn_bind_interdomain", "xen",
    Row("remote_dom",  U16),
    pad(2),
    Row("remote_port", U32),
    Row("local_port",  U32),
)  # fmt: skip

CLOSE_STRUCT = Table("evtchn_close", "xen", Row("port", U32))

SEND_STRUCT = Table("evtchn_send", "xen", Row("port", U32))

STATUS_STRUCT = Table(
    "evtchn_status", "xen",
    Row("dom",    U16),
    pad(2),
    Row("port",   U32),
    Row("status", U32),
    Row("vcpu",   U32),
    Row("u",      U8, 8),
)  # fmt: skip

STATUS_UNBOUND_STRUCT = Table("evtchn_status.u.unbound", "xen", Row("dom", U16))

STATUS_INTERDOMAIN_STRUCT = Table(
    "evtchn_status.u.interdomain", "xen",
    Row("dom",  U16),
    pad(2),
    Row("port", U32),
)  # fmt: skip

STATUS_PIRQ_STRUCT = Table("evtchn_status.u.pirq", "xen", Row("pirq", U32))

STATUS_VIRQ_STRUCT = Table("evtchn_status.u.virq", "xen", Row("virq", U32))

RESET_STRUCT = Table("evtchn_reset", "xen", Row("dom", U16))

BIND_INTERDOMAIN = Operation(EVENT_CHANNEL_OP, "bind_interdomain", 0, BIND_INTERDOMAIN_STRUCT, changes=True)
CLOSE = Operation(EVENT_CHANNEL_OP, "close", 3, CLOSE_STRUCT, changes=True)
SEND = Operation(EVENT_CHANNEL_OP, "send", 4, SEND_STRUCT, changes=True)
STATUS = Operation(EVENT_CHANNEL_OP, "status", 5, STATUS_STRUCT, changes=False)
ALLOC_UNBOUND = Operation(EVENT_CHANNEL_OP, "alloc_unbound", 6, ALLOC_UNBOUND_STRUCT, changes=True)
RESET = Operation(EVENT_CHANNEL_OP, "reset", 10, RESET_STRUCT, changes=True, start=(3, 1))
