# SPDX-License-Identifier: MIT
"""Event channel ports of a domain."""

from __future__ import annotations

from typing import NamedTuple

from pyxc.abi.event_channel import Status

_MOST = 4095
_BUCKET = 64


class Port(NamedTuple):
    """One port: `domid` and `port` are the other end's, `number` an interrupt's."""

    status: Status
    domid: int = 0
    port: int = 0
    number: int = 0
    vcpu: int = 0


_CLOSED = Port(Status.CLOSED)


class Ports:
    """All ports of a domain, up to the highest that it may use; port 0 is never given out."""

    def __init__(self, highest: int) -> None:
        self.highest = min(highest, _MOST)
        self._ports: dict[int, Port] = {}

    def __getitem__(self, number: int) -> Port:
        return self._ports.get(number, _CLOSED)

    def valid(self, number: int) -> bool:
        """Whether Xen has a record for a port: they come in buckets, as ports are needed."""
        return number < (max(self._ports, default=0) // _BUCKET + 1) * _BUCKET

    def open(self, port: Port) -> int | None:
        """Open the lowest free port; None when all are taken."""
        for number in range(1, self.highest + 1):
            if number not in self._ports:
                self._ports[number] = port
                return number
        return None

    def replace(self, number: int, port: Port) -> None:
        self._ports[number] = port

    def close(self, number: int) -> Port:
        """Close a port; answers what it was."""
        return self._ports.pop(number, _CLOSED)
