# SPDX-License-Identifier: MIT
"""Event channels of the simulated host: connecting and closing ports, and sending events."""

from __future__ import annotations

from collections.abc import Callable

from pyxc.abi.domid import DOMID_SELF
from pyxc.abi.errno import XenErrno
from pyxc.abi.event_channel import Status, Virq
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host
from pyxc.sim.model.ports import Port

_NR_VIRQS = 24


def offer(xen: Host, domain: Domain, remote: int) -> int:
    """A new port of a domain that the domain `remote` may connect to."""
    own = xen.current.domain.domid
    return domain.ports.open(Port(Status.UNBOUND, domid=own if remote == DOMID_SELF else remote))


def connect(xen: Host, remote: Domain, port: int) -> int:
    """Connect the calling domain to a port that waits for it; returns its own end, which is rung at once."""
    own = xen.current.domain
    waiting = remote.ports[port]
    if waiting.status is not Status.UNBOUND or waiting.domid != own.domid:
        raise Refusal(XenErrno.EINVAL)
    local = own.ports.open(Port(Status.INTERDOMAIN, domid=remote.domid, port=port))
    remote.ports.replace(port, Port(Status.INTERDOMAIN, domid=own.domid, port=local))
    return local


def bind_virq(xen: Host, virq: int) -> int:
    """A port of the calling domain for an interrupt of the hypervisor's own, which has one holder."""
    ports = xen.current.domain.ports
    if virq >= _NR_VIRQS:
        raise Refusal(XenErrno.EINVAL)
    if ports.find(Status.VIRQ, virq) is not None:
        raise Refusal(XenErrno.EEXIST)
    return ports.open(Port(Status.VIRQ, number=virq))


def listen_to_virq(xen: Host, virq: Virq, listener: Callable[[], None]) -> None:
    """Bind an interrupt for a program of dom0's that looks when it comes."""
    port = bind_virq(xen, virq)
    xen.current.domain.ports.listeners[port] = _Listener(listener)


class _Listener:
    """Called with a port that it does not need to know."""

    def __init__(self, listener: Callable[[], None]) -> None:
        self._listener = listener

    def __call__(self, port: int) -> None:
        self._listener()


def close(xen: Host, domain: Domain, number: int) -> None:
    """Close a port. The other end of a connection waits for a new one."""
    if not domain.ports.valid(number) or domain.ports[number].status is Status.CLOSED:
        raise Refusal(XenErrno.EINVAL)
    was = domain.ports.close(number)
    if was.status is Status.INTERDOMAIN and was.domid in xen.domains:
        xen.domains[was.domid].ports.replace(was.port, Port(Status.UNBOUND, domid=domain.domid))


def close_all(xen: Host, domain: Domain) -> None:
    for number in domain.ports.opened():
        close(xen, domain, number)


def send(xen: Host, domain: Domain, number: int) -> None:
    """Send an event to the other end of a domain's port, if it is connected."""
    port = domain.ports[number]
    if port.status not in (Status.UNBOUND, Status.INTERDOMAIN):
        raise Refusal(XenErrno.EINVAL)
    if port.status is Status.INTERDOMAIN and port.domid in xen.domains:
        xen.domains[port.domid].ports.ring(port.port)


def raise_virq(xen: Host, virq: Virq) -> None:
    """Send a virtual interrupt of the hypervisor to the port bound to it."""
    ports = xen.domains[0].ports
    number = ports.find(Status.VIRQ, virq)
    if number is not None:
        ports.ring(number)
