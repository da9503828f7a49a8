# SPDX-License-Identifier: MIT
"""The releases that the simulator can be: what differs between them beyond the layouts."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pyxc.abi import releases
from pyxc.abi.domctl import Scheduler
from pyxc.abi.features import Feature
from pyxc.abi.layout import Interface, Release
from pyxc.abi.sysctl import Capability

_UNTOLD = Capability(0)
_BARE = Capability.HVM
_PV_NAMED = Capability.HVM | Capability.PV | Capability.HAP | Capability.SHADOW
_GRANTS_NAMED = _PV_NAMED | Capability.GNTTAB_V1 | Capability.GNTTAB_V2
_NO_SHADOW = _GRANTS_NAMED & ~Capability.SHADOW

_OLDEST = Feature.PAE_PGDIR_ABOVE_4GB
_PV = (
    _OLDEST
    | Feature.MMU_PT_UPDATE_PRESERVE_AD
    | Feature.HIGHMEM_ASSIST
    | Feature.GNTTAB_MAP_AVAIL_BITS
)  # fmt: skip
_NAMED = _PV | Feature.DOM0
_DOM0 = _NAMED | Feature.MEMORY_OP_VNODE_SUPPORTED
_MAPPED = _DOM0 | Feature.DIRECT_MAPPED
_AREAS = _MAPPED | Feature.RUNSTATE_PHYS_AREA | Feature.VCPU_TIME_PHYS_AREA | Feature.DM_MSIX_ALL_WRITES


_2_GIB = 0x7FFE0
_80_GIB = 80 << 18


class Profile(NamedTuple):
    """One build of a release, and the host that it runs on."""

    xen: Release
    extraversion: str
    built: str
    capabilities: Capability
    features: Feature
    pv32: bool = False
    """Whether it was built for 32-bit PV guests."""
    dom0_op: int = 0
    """The interface number of a Xen that has dom0_op in place of domctl and sysctl."""
    arch: str = "x86_64"
    byteorder: Literal["little", "big"] = "little"
    getmemlist2: bool = False
    """Whether it has dom0_op getmemlist2, which was proposed and never shipped."""
    changeset: str = ""
    frames: int = _2_GIB
    """Of the host, 4096 bytes each."""
    large_guest_pages: int = 0
    """The pages of a fourth guest; 0: no such guest."""
    xsm: bool = False
    """Whether it was built with FLASK, performance counters, and the schedulers RTDS and null."""
    pci: tuple[int, ...] = ()
    """The PCI devices of the host, which then has an IOMMU to give them to guests: bus << 8 | devfn."""

    @property
    def schedulers(self) -> tuple[Scheduler, ...]:
        """Those that it was built with, the default one first. From 4.15 on some come only on request."""
        if self.since(4, 15):
            on_request = (Scheduler.RTDS, Scheduler.NULL) if self.xsm else ()
            return Scheduler.CREDIT2, Scheduler.CREDIT, *on_request
        newer = (((4, 1), Scheduler.CREDIT2), ((4, 5), Scheduler.RTDS), ((4, 9), Scheduler.NULL))
        known = (Scheduler.CREDIT, *(scheduler for release, scheduler in newer if self.since(*release)))
        return (known[1], known[0], *known[2:]) if self.since(4, 12) else known

    @property
    def interface(self) -> Interface:
        if self.dom0_op:
            return Interface(self.xen, dom0_op=self.dom0_op, arch=self.arch, byteorder=self.byteorder)
        return Interface(self.xen, *releases.numbers(self.xen))

    @property
    def description(self) -> str:
        """One line for people."""
        what = f"Xen {self.version}"
        if self.xen == releases.UNRELEASED:
            what += " (not released)"
        if self.dom0_op:
            what += f" of May 2006 on {self.arch} {'with' if self.getmemlist2 else 'without'} getmemlist2"
        if self.xsm:
            what += " with FLASK and performance counters"
        guests = "three guests"
        if self.large_guest_pages:
            guests += f" and one of {self.large_guest_pages >> 18} GiB"
        if self.iommu:
            guests += f", an IOMMU and {len(self.pci)} PCI devices"
        return f"{what}, on a host of 2 cpus and {round(self.frames / 2**18)} GiB with dom0 and {guests}"

    @property
    def version(self) -> str:
        return f"{self.xen[0]}.{self.xen[1]}{self.extraversion}"

    @property
    def iommu(self) -> bool:
        return bool(self.pci)

    def since(self, major: int, minor: int) -> bool:
        """Whether it is that release or a later one."""
        return self.xen >= (major, minor)


_X86_2006 = Profile(
    (3, 0),
    "-unstable",
    "Mon May 15 11:02:54 UTC 2006",
    Capability(0),
    Feature(0),
    dom0_op=0x03000000,
    getmemlist2=True,
    changeset="Mon May 15 07:51:07 2006 +0100 (simulated)",
)
_PPC64_2006 = _X86_2006._replace(arch="ppc64", byteorder="big")

_4_17 = Profile((4, 17), ".7", "Wed Jul 29 13:37:29 UTC 2026", _GRANTS_NAMED, _MAPPED)

_ALL = {
    "sim:ppc64": _PPC64_2006,
    "sim:ppc64-64g": _PPC64_2006._replace(frames=_80_GIB, large_guest_pages=64 << 18),
    "sim:ppc64-shipped": _PPC64_2006._replace(getmemlist2=False),
    "sim:xen-3.0": _X86_2006,
    "sim:xen-3.0-shipped": _X86_2006._replace(getmemlist2=False),
    "sim:xen-3.1": Profile((3, 1), ".0", "Fri May 18 16:59:42 UTC 2007", _UNTOLD, _OLDEST, pv32=True),
    "sim:xen-3.4": Profile((3, 4), ".0", "Mon May 18 10:10:38 UTC 2009", _BARE, _PV, pv32=True),
    "sim:xen-4.1": Profile((4, 1), ".0", "Fri Mar 25 10:12:56 UTC 2011", _BARE, _PV, pv32=True),
    "sim:xen-4.4": Profile((4, 4), ".0", "Mon Mar 10 10:42:40 UTC 2014", _BARE, _NAMED, pv32=True),
    "sim:xen-4.7": Profile((4, 7), ".0", "Mon Jun 20 11:38:15 UTC 2016", _BARE, _DOM0, pv32=True),
    "sim:xen-4.10": Profile((4, 10), ".4", "Tue Dec 15 14:47:28 UTC 2020", _BARE, _DOM0, pv32=True),
    "sim:xen-4.14": Profile((4, 14), ".6", "Mon Aug  7 12:11:14 UTC 2023", _PV_NAMED, _DOM0),
    "sim:xen-4.17": _4_17,
    "sim:xen-4.17-pci": _4_17._replace(
        capabilities=_GRANTS_NAMED | Capability.DIRECTIO,
        pci=(0x0008, 0x0300, 0x0301, 0x0400),  # 00:01.0, 03:00.0, 03:00.1, 04:00.0
    ),
    "sim:xen-4.17-xsm": Profile(
        (4, 17), ".5", "Wed Nov 25 07:11:15 UTC 2026", _GRANTS_NAMED, _MAPPED, pv32=True, xsm=True
    ),
    "sim:xen-4.20": Profile((4, 20), ".4", "Wed Jul 29 15:18:52 UTC 2026", _NO_SHADOW, _AREAS),
    "sim:xen-4.22": Profile((4, 22), ".0", "Wed Jul 29 17:59:28 UTC 2026", _NO_SHADOW, _AREAS),
    "sim:xen-4.23": Profile((4, 23), "-unstable", "Thu Aug 20 07:15:07 UTC 2026", _NO_SHADOW, _AREAS),
}

DEFAULT = "sim:xen-4.17"
PROFILES = {target: profile.description for target, profile in _ALL.items()}
"""What can be simulated: target to one line of description."""


def named(target: str) -> Profile:
    """The profile of a target; "sim:" is the default one. ValueError lists the known ones."""
    found = _ALL.get(DEFAULT if target == "sim:" else target)
    if found is None:
        from difflib import get_close_matches

        near = "".join(f"; did you mean {one!r}?" for one in get_close_matches(target, PROFILES, 1))
        known = f"expected one of {', '.join(PROFILES)}{near}"
        raise ValueError(f"{target!r} is not a simulated hypervisor: {known}")
    return found
