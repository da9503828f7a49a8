# SPDX-License-Identifier: MIT
"""A hypervisor in this process, below the marshalling: it accepts and returns bytes.

`connect("sim:xen-4.17")` gives a link to a freshly booted host; `Hypervisor(profile)` is the host itself, to
which several links may lead. Every run of one program sees the same host.
"""

from __future__ import annotations

from pyxc.sim.guests.kernel import kernel
from pyxc.sim.hypervisor import Hypervisor
from pyxc.sim.link import SimLink
from pyxc.sim.model.access import Refusal
from pyxc.sim.ops.call import REGISTER, Call
from pyxc.sim.profiles import DEFAULT, PROFILES, Profile, named

__all__ = [
    "DEFAULT",
    "PROFILES",
    "Call",
    "Hypervisor",
    "Profile",
    "Refusal",
    "SimLink",
    "connect",
    "kernel",
    "named",
    "operations",
]


def connect(target: str = DEFAULT) -> SimLink:
    """A link to a new simulated host, or with "sim:PROFILE@FILE" to one that a file keeps.

    ValueError, with the known targets, for an unknown one.
    """
    if "@" in target:
        from pyxc.sim import kept

        return kept.connect(target)
    hypervisor = Hypervisor(named(target))
    hypervisor.serve_devices()
    return hypervisor.connect(DEFAULT if target == "sim:" else target)


def operations() -> set[str]:
    """Full names of the operations that the simulator carries out."""
    return set(REGISTER)
