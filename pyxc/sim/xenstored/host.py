# SPDX-License-Identifier: MIT
"""What xenstored asks of the hypervisor below it, and the simulator's answers."""

from __future__ import annotations

from contextlib import suppress

from pyxc.sim.model import channels
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.host import Host


class HostDomains:
    """The domains of a simulated hypervisor. Used with its lock."""

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def since(self, *release: int) -> bool:
        """Whether Xen is that release or a newer one."""
        return self._xen.profile.since(*release)

    def exists(self, domid: int) -> bool:
        """Whether there is a domain that is not going away."""
        domain = self._xen.domains.get(domid)
        return domain is not None and not domain.dying

    def stopped(self, domid: int) -> bool:
        """Whether a domain that exists shut down or crashed."""
        return self._xen.domains[domid].shutdown_code is not None

    def bind(self, domid: int, port: int) -> int:
        """Connect dom0 to an unbound port of a domain; dom0's own port, 0 when that cannot be."""
        try:
            return channels.connect(self._xen, self._xen.find(domid), port)
        except Refusal:
            return 0

    def unbind(self, port: int) -> None:
        """Close a port of dom0, if it is open; its other end waits for a new connection."""
        with suppress(Refusal):
            channels.close(self._xen, self._xen.domains[0], port)
