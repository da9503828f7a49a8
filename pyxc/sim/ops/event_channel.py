# SPDX-License-Identifier: MIT
"""event_channel_op: ports of dom0 and of others."""

from __future__ import annotations

from pyxc.abi import event_channel
from pyxc.abi.errno import XenErrno
from pyxc.abi.event_channel import Status
from pyxc.sim.model import channels
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.policy import UNLABELED_SID
from pyxc.sim.model.ports import Port
from pyxc.sim.ops.call import Call, handles

_LABELLED = (Status.CLOSED, Status.UNBOUND, Status.INTERDOMAIN)
"""Ports that have a label of their own under a policy, and those that it does not check."""


@handles(event_channel.ALLOC_UNBOUND)
def alloc_unbound(call: Call) -> None:
    domain = call.xen.find_any(call["dom"])
    call.answer(port=channels.offer(call.xen, domain, call["remote_dom"]))


@handles(event_channel.BIND_INTERDOMAIN)
def bind_interdomain(call: Call) -> None:
    remote = call.xen.find_any(call["remote_dom"])
    call.answer(local_port=channels.connect(call.xen, remote, call["remote_port"]))


@handles(event_channel.CLOSE)
def close(call: Call) -> None:
    channels.close(call.xen, call.xen.current.domain, call["port"])


@handles(event_channel.STATUS)
def status(call: Call) -> None:
    ports, number = call.xen.find_any(call["dom"]).ports, call["port"]
    if not ports.valid(number):
        raise Refusal(XenErrno.EINVAL)
    port = ports[number]
    if port.status not in _LABELLED:
        call.xen.demand(UNLABELED_SID, "event", "status")
    call.answer(status=int(port.status), vcpu=port.vcpu, u=_detail(call, port) or call["u"])


@handles(event_channel.RESET)
def reset(call: Call) -> None:
    """Only of a domain that the toolstack has paused. dom0's own ports are not for tools to close."""
    domain = call.xen.find_any(call["dom"])
    call.xen.demand(domain.ssidref, "event", "reset")
    if domain is call.xen.current.domain or not domain.pauses:
        raise Refusal(XenErrno.EINVAL)
    channels.close_all(call.xen, domain)


def _detail(call: Call, port: Port) -> bytes:
    """What `u` holds for a port, b"" where it is not written."""
    details = {
        Status.UNBOUND: (event_channel.STATUS_UNBOUND_STRUCT, {"dom": port.domid}),
        Status.INTERDOMAIN: (event_channel.STATUS_INTERDOMAIN_STRUCT, {"dom": port.domid, "port": port.port}),
        Status.VIRQ: (event_channel.STATUS_VIRQ_STRUCT, {"virq": port.number}),
        Status.PIRQ: (event_channel.STATUS_PIRQ_STRUCT, {"pirq": port.number}),
    }
    if port.status not in details:
        return b""
    table, fields = details[port.status]
    packed = call.xen.layout(table).pack(fields)
    rest: bytes = call["u"]
    return packed + rest[len(packed) :]
