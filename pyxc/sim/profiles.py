# SPDX-License-Identifier: MIT
"""The releases that the simulator can be: what differs between them beyond the layouts."""

from __future__ import annotations

from typing import NamedTuple

from pyxc.abi import versions
from pyxc.abi.layout import Interface, Release
from pyxc.abi.sysctl import Capability
from pyxc.abi.version import Feature

_BARE = Capability.HVM
_PV_NAMED = Capability.HVM | Capability.PV | Capability.HAP | Capability.SHADOW
_GRANTS_NAMED = _PV_NAMED | Capability.GNTTAB_V1 | Capability.GNTTAB_V2
_NO_SHADOW = _GRANTS_NAMED & ~Capability.SHADOW

_DOM0 = (
    Feature.PAE_PGDIR_ABOVE_4GB
    | Feature.MMU_PT_UPDATE_PRESERVE_AD
    | Feature.HIGHMEM_ASSIST
    | Feature.GNTTAB_MAP_AVAIL_BITS
    | Feature.DOM0
    | Feature.MEMORY_OP_VNODE_SUPPORTED
)
_MAPPED = _DOM0 | Feature.DIRECT_MAPPED
_AREAS = _MAPPED | Feature.RUNSTATE_PHYS_AREA | Feature.VCPU_TIME_PHYS_AREA | Feature.DM_MSIX_ALL_WRITES


class Profile(NamedTuple):
    """One release as somebody built it."""

    xen: Release
    extraversion: str
    built: str
    capabilities: Capability
    features: Feature
    pv32: bool = False
    """Whether it was built for 32-bit PV guests."""

    @property
    def interface(self) -> Interface:
        return Interface(self.xen, *versions.numbers(self.xen))

    @property
    def version(self) -> str:
        return f"{self.xen[0]}.{self.xen[1]}{self.extraversion}"

    def since(self, major: int, minor: int) -> bool:
        """Whether it is that release or a later one."""
        return self.xen >= (major, minor)


_ALL = {
    "sim:xen-4.10": Profile((4, 10), ".4", "Tue Dec 15 14:47:28 UTC 2020", _BARE, _DOM0, pv32=True),
    "sim:xen-4.14": Profile((4, 14), ".6", "Mon Aug  7 12:11:14 UTC 2023", _PV_NAMED, _DOM0),
    "sim:xen-4.17": Profile((4, 17), ".7", "Wed Jul 29 13:37:29 UTC 2026", _GRANTS_NAMED, _MAPPED),
    "sim:xen-4.20": Profile((4, 20), ".4", "Wed Jul 29 15:18:52 UTC 2026", _NO_SHADOW, _AREAS),
    "sim:xen-4.22": Profile((4, 22), ".0", "Wed Jul 29 17:59:28 UTC 2026", _NO_SHADOW, _AREAS),
}

DEFAULT = "sim:xen-4.17"
PROFILES = {
    target: f"Xen {profile.version} on a host of 2 cpus and 2 GiB with dom0 and three guests"
    for target, profile in _ALL.items()
}
"""What can be simulated: target to one line of description."""


def named(target: str) -> Profile:
    """The profile of a target; "sim:" is the default one. ValueError lists the known ones."""
    found = _ALL.get(DEFAULT if target == "sim:" else target)
    if found is None:
        raise ValueError(f"no simulated hypervisor is called {target!r}; there are {', '.join(PROFILES)}")
    return found
