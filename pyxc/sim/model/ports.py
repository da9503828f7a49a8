# SPDX-License-Identifier: MIT
"""Event channel ports of a domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pyxc.abi.errno import XenErrno
from pyxc.abi.event_channel import Status
from pyxc.sim.model.access import Refusal

_MOST = 4095
_BUCKET = 64


Listener = Callable[[int], None]
"""Called with the number of a port at each event."""


class Port(NamedTuple):
    """One port: `domid` and `port` are the other end's, `number` an interrupt's."""

    status: Status
    domid: int = 0
    port: int = 0
    number: int = 0
    vcpu: int = 0


_CLOSED = Port(Status.CLOSED)


class Ports:
    """All ports of a domain, up to the highest that it may use; port 0 is never given out.

    `listeners` are called at events of their port.
    """

    def __init__(self, highest: int) -> None:
        self.highest = min(highest, _MOST)
        self.listeners: dict[int, Listener] = {}
        self._ports: dict[int, Port] = {}

    def __getitem__(self, number: int) -> Port:
        return self._ports.get(number, _CLOSED)

    def valid(self, number: int) -> bool:
        """Whether Xen has a record for a port: they come in buckets, as ports are needed."""
        return number < (max(self._ports, default=0) // _BUCKET + 1) * _BUCKET

    def open(self, port: Port) -> int:
        """Open the lowest free port. Refusal (ENOSPC) when all are taken."""
        for number in range(1, self.highest + 1):
            if number not in self._ports:
                self._ports[number] = port
                return number
        raise Refusal(XenErrno.ENOSPC)

    def opened(self) -> list[int]:
        """The numbers of all ports that are not closed."""
        return sorted(self._ports)

    def find(self, status: Status, number: int) -> int | None:
        """The port that an interrupt is bound to, None when it is not."""
        return next(
            (at for at, port in self._ports.items() if (port.status, port.number) == (status, number)), None
        )

    def ring(self, number: int) -> None:
        """Tell the listener of a port, if it has one."""
        listener = self.listeners.get(number)
        if listener is not None:
            listener(number)

    def replace(self, number: int, port: Port) -> None:
        self._ports[number] = port

    def close(self, number: int) -> Port:
        """Close a port; returns what it was."""
        self.listeners.pop(number, None)
        return self._ports.pop(number, _CLOSED)
