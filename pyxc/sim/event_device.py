# SPDX-License-Identifier: MIT
"""The event channel device of the simulated dom0's kernel."""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from collections.abc import Callable
from io import FileIO

from pyxc.abi.domid import DOMID_SELF
from pyxc.sim.model import channels
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.host import Host

_TICK = (1).to_bytes(8, sys.byteorder)


class SimEvtchn:
    """One open device. Its descriptor is an eventfd, readable while ports that fired are not taken.

    As in Linux, a port that has fired is masked until unmask(), and events meanwhile are kept.
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen
        self._ports = xen.current.domain.ports
        self._bound: set[int] = set()
        self._masked: set[int] = set()
        self._pending: set[int] = set()
        self._ring: deque[int] = deque()
        self._overflowed = False
        self.only: int | None = None
        self._readable = FileIO(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), "r+")
        self.fileno = self._readable.fileno
        self._requests: dict[str, Callable[..., int]] = {
            "bind_virq": self._bind_virq,
            "bind_interdomain": self._bind_interdomain,
            "bind_unbound_port": self._bind_unbound_port,
            "unbind": self._unbind,
            "notify": self._notify,
            "reset": self._reset,
            "restrict_domid": self._restrict,
        }

    def request(self, name: str, *numbers: int) -> int:
        self.fileno()
        with self._xen.lock:
            try:
                return self._requests[name](*numbers)
            except Refusal as refusal:
                return -refusal.errno

    def _bind_virq(self, virq: int) -> int:
        if self.only is not None:
            return -errno.EACCES
        return self._bound_to(channels.bind_virq(self._xen, virq))

    def _bind_interdomain(self, domid: int, port: int) -> int:
        if self.only not in (None, domid):
            return -errno.EACCES
        local = self._bound_to(channels.connect(self._xen, self._xen.find_any(domid), port))
        self._fire(local)
        return local

    def _bind_unbound_port(self, domid: int) -> int:
        if self.only not in (None, domid):
            return -errno.EACCES
        return self._bound_to(channels.offer(self._xen, self._xen.find_any(DOMID_SELF), domid))

    def _bound_to(self, port: int) -> int:
        self._bound.add(port)
        self._ports.listeners[port] = self._fire
        return port

    def _unbind(self, port: int) -> int:
        if port not in self._bound:
            return -errno.ENOTCONN
        self._bound.discard(port)
        self._masked.discard(port)
        self._pending.discard(port)
        channels.close(self._xen, self._xen.current.domain, port)
        return 0

    def _notify(self, port: int) -> int:
        if port not in self._bound:
            return -errno.ENOTCONN
        channels.send(self._xen, self._xen.current.domain, port)
        return 0

    def _reset(self) -> int:
        self._overflowed = False
        self._ring.clear()
        self._settle()
        return 0

    def _restrict(self, domid: int) -> int:
        if self.only is not None:
            return -errno.EACCES
        if domid == 0:
            return -errno.EINVAL
        self.only = domid
        return 0

    def _fire(self, port: int) -> None:
        """What the kernel does when a port is rung."""
        if port in self._masked:
            self._pending.add(port)
            return
        self._masked.add(port)
        if len(self._ring) < self._xen.event_ring:
            self._ring.append(port)
        else:
            self._overflowed = True
        self._settle()

    def _settle(self) -> None:
        """Make the descriptor readable, or not."""
        self._readable.read(8)
        if self._ring or self._overflowed:
            self._readable.write(_TICK)

    def take(self) -> int:
        self.fileno()
        with self._xen.lock:
            if self._overflowed:
                return -errno.EFBIG
            port = self._ring.popleft() if self._ring else 0
            self._settle()
            return port

    def unmask(self, port: int) -> None:
        with self._xen.lock:
            self._masked.discard(port)
            if port in self._pending:
                self._pending.discard(port)
                self._fire(port)

    def close(self) -> None:
        with self._xen.lock:
            for port in sorted(self._bound):
                self._unbind(port)
            self._readable.close()
