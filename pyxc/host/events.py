# SPDX-License-Identifier: MIT
"""Event channels of this domain: sending events to other domains, and waiting for theirs."""

from __future__ import annotations

import errno
import time
from collections.abc import AsyncIterator
from threading import Lock
from types import TracebackType
from typing import SupportsIndex

from pyxc import arguments, errors
from pyxc._core import fork_count
from pyxc.abi.event_channel import Virq
from pyxc.host.host import Host
from pyxc.waiting import until_readable, until_readable_async

_PORT_MAX = 2**32 - 1
_VIRQ_MAX = 2**32 - 1
_HINTS = {
    ("bind_virq", errno.EEXIST): "another port has it: xenstored binds DOM_EXC",
    ("bind_virq", errno.EINVAL): "no such virq, or it is not for this domain",
    ("bind_interdomain", errno.EINVAL): "the remote domain has no such port waiting for this domain",
}
_RESTRICTED = "these event channels are restricted to a different domain"


class EventChannels:
    """Ports of the domain that this process runs in, bound through one open /dev/xen/evtchn.

    Events are not counted: several events of a port before wait() returns it count as one or two. Check the
    cause of the event after wait() returns, so that you miss nothing. `async for port in channels` waits in
    an event loop; a program with its own select() waits on fileno() and then calls wait(0) until it returns
    None.

    close() closes the ports. Each event goes to one waiting thread. Threads: safe to share; in a child after
    fork it refuses.

    Example:

    >>> channels = xen.events()
    >>> far = channels.bind_unbound(0)              # domain 0 may connect to this port
    >>> near = channels.bind_interdomain(0, far)    # and does so
    >>> channels.wait(timeout=0) == near            # a new connection fires once
    True
    >>> channels.notify(near)
    >>> channels.wait(timeout=10) == far
    True
    >>> channels.close()
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen
        self._forks = fork_count()
        self._lock = Lock()
        self._bound: set[int] = set()
        self._doubtful: list[int] = []
        self._device = xen.link.open_events()
        self._open = True

    @property
    def ports(self) -> frozenset[int]:
        """The bound ports."""
        with self._lock:
            return frozenset(self._bound)

    def bind_virq(self, virq: Virq | int) -> int:
        """A port for events of the hypervisor (EVTCHNOP_bind_virq). EEXIST: another port has this virq."""
        return self._bind("bind_virq", arguments.natural("virq", virq, _VIRQ_MAX))

    def bind_unbound(self, domid: SupportsIndex) -> int:
        """A new port to which a domain may connect (EVTCHNOP_alloc_unbound)."""
        self._xen.check_writable("opening a port for another domain")
        return self._bind("bind_unbound_port", arguments.domid_or_self(domid))

    def bind_interdomain(self, domid: SupportsIndex, port: int) -> int:
        """Connect to a port of another domain that waits for this domain; returns the local port.

        EINVAL if there is no such port (EVTCHNOP_bind_interdomain). The port fires at once, so that earlier
        events of the other end are not lost.
        """
        self._xen.check_writable("connecting to a port of a domain")
        there = arguments.natural("port", port, _PORT_MAX)
        return self._bind("bind_interdomain", arguments.domid_or_self(domid), there)

    def _bind(self, name: str, *numbers: int) -> int:
        """Bind under the lock, so that a waiting thread knows the port before its first event."""
        domid = None if name == "bind_virq" else numbers[0]
        with self._lock:
            port = self._request(name, *numbers, domid=domid)
            self._bound.add(port)
        return port

    def unbind(self, port: int) -> None:
        """Close a port. ValueError if it is not bound here."""
        with self._lock:
            self._request("unbind", self._own(port))
            self._bound.discard(port)

    def notify(self, port: int) -> None:
        """Send an event to the other end of a port. ValueError if it is not bound here."""
        self._xen.check_writable("ringing another domain")
        with self._lock:
            self._request("notify", self._own(port))

    def restrict(self, domid: SupportsIndex) -> None:
        """Permanently allow only ports to this domain: EACCES for others, and for virqs."""
        self._request("restrict_domid", arguments.domid(domid), domid=arguments.domid(domid))

    def fileno(self) -> int:
        """A descriptor to wait on with select() or poll()."""
        self._check()
        return self._device.fileno()

    def wait(self, timeout: float | None = None) -> int | None:
        """The next port that has fired; None if none does within `timeout` seconds (0: do not wait).

        If the kernel lost events (its ring was full), each port is returned once.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            port = self._take()
            if port is not None:
                return port
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            until_readable(self.fileno(), left)

    def __aiter__(self) -> AsyncIterator[int]:
        return self._fired()

    async def _fired(self) -> AsyncIterator[int]:
        while True:
            port = self._take()
            if port is None:
                await until_readable_async(self.fileno(), None)
            else:
                yield port

    def _take(self) -> int | None:
        """A port that has fired, which may now fire again; None if there is none."""
        self._check()
        with self._lock:
            while True:
                port = self._doubtful.pop() if self._doubtful else self._device.take()
                if port in self._bound:
                    self._device.unmask(port)
                    return port
                if port == -errno.EFBIG:
                    self._recover()
                elif port == 0:
                    return None

    def _recover(self) -> None:
        """The kernel's ring was full: it is unknown which ports fired, and these are silent now."""
        self._request("reset")
        self._doubtful = sorted(self._bound, reverse=True)

    def _own(self, port: int) -> int:
        if port not in self._bound:
            raise ValueError(f"port {port} is not bound here")
        return port

    def _request(self, name: str, *numbers: int, domid: int | None = None) -> int:
        self._check()
        result = self._device.request(name, *numbers)
        if result < 0:
            hint = _RESTRICTED if result == -errno.EACCES else _HINTS.get((name, -result), "")
            raise errors.from_errno(-result, f"evtchn.{name}", domid, hint=hint)
        return result

    def _check(self) -> None:
        if not self._open:
            raise ValueError("these event channels are closed")
        if self._forks != fork_count():
            raise RuntimeError("these event channels were opened before a fork: open new ones in the child")

    def close(self) -> None:
        """Close all ports. May be called again, but not while another thread waits."""
        if self._open:
            self._open = False
            self._bound.clear()
            self._device.close()

    def __enter__(self) -> EventChannels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"{len(self._bound)} bound" if self._open else "closed"
        return f"<EventChannels of {self._xen.link.target}, {state}>"
