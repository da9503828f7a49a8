# SPDX-License-Identifier: MIT
"""The hypervisor that programs written for xen.lowlevel find, which say nothing of it themselves.

It is the one that PYXC_TARGET of the environment names, else the real one. All handles of a process share one
simulated host, as they would share a real one.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from pyxc import opening
from pyxc.link import Link
from pyxc.store import Channel, connect

if TYPE_CHECKING:
    from pyxc.sim import Hypervisor


def open_link() -> Link:
    """A new link to the hypervisor. NotXenError, ValueError for an unknown target."""
    target = opening.chosen(None)
    if target is not None and target.startswith(opening.SIMULATED):
        return host(target).connect(target)
    return opening.open_link(target)


def connect_store() -> Channel:
    """A new connection to its xenstore, for which the real one needs no hypercall. StoreError."""
    return open_link().connect_store() if opening.chosen(None) else connect()


@cache
def host(target: str) -> Hypervisor:
    """The simulated host of a target that this process has; after host.cache_clear() it has a new one."""
    from pyxc import sim

    return sim.Hypervisor(sim.named(target))
