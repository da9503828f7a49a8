# SPDX-License-Identifier: MIT
"""The xenstored of a simulated host: `Hypervisor.store`. `listener` lets other processes reach it."""

from __future__ import annotations

from pyxc.sim.xenstored.host import HostDomains
from pyxc.sim.xenstored.server import Xenstored

__all__ = ["HostDomains", "Xenstored"]
