# SPDX-License-Identifier: MIT
"""Event channels of a domain from the hypervisor's view: listing its ports, and creating ports for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, SupportsIndex

from pyxc import answers, arguments
from pyxc.abi import event_channel
from pyxc.abi.event_channel import Status
from pyxc.domain.identity import Identity

_PORT_MAX = 2**32 - 1
_BATCH = 128
_DETAILS = {
    Status.UNBOUND: (event_channel.STATUS_UNBOUND_STRUCT, {"dom": "remote_domid"}),
    Status.INTERDOMAIN: (
        event_channel.STATUS_INTERDOMAIN_STRUCT,
        {"dom": "remote_domid", "port": "remote_port"},
    ),
    Status.PIRQ: (event_channel.STATUS_PIRQ_STRUCT, {"pirq": "pirq"}),
    Status.VIRQ: (event_channel.STATUS_VIRQ_STRUCT, {"virq": "virq"}),
}
"""The contents of status' `u` for each kind of port, and their names in a Channel."""


class Channel(NamedTuple):
    """A port at one moment (EVTCHNOP_status, public/event_channel.h). None: this kind of port has no such
    field.

    `vcpu` is the one that is notified. `remote_domid` is the domain that is, or may be (UNBOUND), connected.

    Example:

    >>> channel = web.channels.status(1)
    >>> channel.port, channel.status.name, channel.remote_domid, channel.remote_port
    (1, 'INTERDOMAIN', 0, 5)
    """

    port: int
    status: Status
    vcpu: int
    remote_domid: int | None = None
    remote_port: int | None = None
    virq: int | None = None
    pirq: int | None = None


class Channels:
    """The event channels of one domain. Threads: safe to share.

    To send events and to wait for them, use ports of the own domain: see EventChannels.

    Example:

    >>> [(channel.port, channel.status.name) for channel in build.channels.ports()]
    [(1, 'INTERDOMAIN'), (2, 'INTERDOMAIN')]
    """

    def __init__(self, domain: Identity) -> None:
        self._domain = domain
        self._xen = domain.xen

    def status(self, port: int) -> Channel:
        """What a port is bound to (EVTCHNOP_status). EINVAL for a port beyond its table."""
        number = arguments.natural("port", port, _PORT_MAX)
        reply = self._domain.call(event_channel.STATUS, port=number)
        return self._channel(number, reply.fields())

    def ports(self) -> list[Channel]:
        """All ports that are not closed, in as few hypercalls as possible (EVTCHNOP_status, multicall)."""
        codec = event_channel.STATUS.at(self._xen.interface)
        domid = self._domain.domid
        found = []
        for first in range(0, _PORT_MAX, _BATCH):
            numbers = range(first, first + _BATCH)
            batch = self._xen.caller.batch(event_channel.STATUS, _BATCH, dom=domid, port=numbers)
            if first == 0 and batch.results[0] < 0:
                raise self._xen.caller.error(event_channel.STATUS, -batch.results[0], domid)
            known = [index for index, result in enumerate(batch.results) if result == 0]
            found += [self._channel(numbers[index], codec.unpack(batch.answers[index])) for index in known]
            if len(known) < _BATCH:
                break
        return [channel for channel in found if channel.status is not Status.CLOSED]

    def open(self, remote_domid: SupportsIndex = 0) -> int:
        """A new port of the domain that `remote_domid` may connect to (EVTCHNOP_alloc_unbound).

        A toolstack opens two for a new guest: for its xenstore and for its console.
        """
        remote = arguments.domid_or_self(remote_domid)
        reply = self._domain.change(event_channel.ALLOC_UNBOUND, remote_dom=remote)
        return int(reply.field("port"))

    def reset(self) -> None:
        """Close all its ports (EVTCHNOP_reset). EINVAL unless the domain is paused.

        ValueError for the domain that this process runs in, which would lose its interrupts.
        """
        if self._domain.domid == self._xen.own_domid:
            raise ValueError("closing all event channels of this process's own domain would stop it")
        self._domain.change(event_channel.RESET)

    def _channel(self, port: int, answer: Mapping[str, Any]) -> Channel:
        status = answers.member(Status, answer["status"])
        if status not in _DETAILS:
            return Channel(port, status, answer["vcpu"])
        table, names = _DETAILS[status]
        layout = table.at(self._xen.interface)
        fields = layout.unpack(answer["u"][: layout.size])
        return Channel(port, status, answer["vcpu"], **{ours: fields[name] for name, ours in names.items()})

    def __repr__(self) -> str:
        return f"<Channels of domain {self._domain.domid}>"
