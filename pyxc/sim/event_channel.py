# SPDX-License-Identifier: MIT
"""event_channel_op: ports of dom0 and of others."""

from __future__ import annotations

from pyxc.abi import event_channel
from pyxc.abi.domid import DOMID_SELF
from pyxc.abi.errno import XenErrno
from pyxc.abi.event_channel import Status
from pyxc.sim.access import Refusal
from pyxc.sim.call import Call, handles
from pyxc.sim.domain import Domain
from pyxc.sim.ports import Port


def _open(domain: Domain, port: Port) -> int:
    number = domain.ports.open(port)
    if number is None:
        raise Refusal(XenErrno.ENOSPC)
    return number


@handles(event_channel.ALLOC_UNBOUND)
def alloc_unbound(call: Call) -> None:
    domain = call.xen.find_any(call["dom"])
    remote = call.xen.current.domain.domid if call["remote_dom"] == DOMID_SELF else call["remote_dom"]
    call.answer(port=_open(domain, Port(Status.UNBOUND, domid=remote)))


@handles(event_channel.BIND_INTERDOMAIN)
def bind_interdomain(call: Call) -> None:
    own = call.xen.current.domain
    remote, port = call.xen.find_any(call["remote_dom"]), call["remote_port"]
    offer = remote.ports[port]
    if offer.status is not Status.UNBOUND or offer.domid != own.domid:
        raise Refusal(XenErrno.EINVAL)
    local = _open(own, Port(Status.INTERDOMAIN, domid=remote.domid, port=port))
    remote.ports.replace(port, Port(Status.INTERDOMAIN, domid=own.domid, port=local))
    call.answer(local_port=local)


@handles(event_channel.CLOSE)
def close(call: Call) -> None:
    """The other end of a connection is left waiting for somebody new."""
    domain, number = call.xen.current.domain, call["port"]
    if not domain.ports.valid(number) or domain.ports[number].status is Status.CLOSED:
        raise Refusal(XenErrno.EINVAL)
    was = domain.ports.close(number)
    if was.status is Status.INTERDOMAIN and was.domid in call.xen.domains:
        call.xen.find(was.domid).ports.replace(was.port, Port(Status.UNBOUND, domid=domain.domid))


@handles(event_channel.STATUS)
def status(call: Call) -> None:
    ports, number = call.xen.find_any(call["dom"]).ports, call["port"]
    if not ports.valid(number):
        raise Refusal(XenErrno.EINVAL)
    port = ports[number]
    call.answer(status=int(port.status), vcpu=port.vcpu, u=_detail(call, port) or call["u"])


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
