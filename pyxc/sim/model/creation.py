# SPDX-License-Identifier: MIT
"""Making a domain: what createdomain accepts, and what a new domain has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyxc._core import PAGE_SIZE
from pyxc.abi.domctl import GRANT_VERSION_MASK
from pyxc.abi.domctl_create import CreateFlag
from pyxc.abi.errno import XenErrno
from pyxc.abi.sysctl import Capability
from pyxc.sim.model import domids
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host
from pyxc.sim.model.ports import Ports
from pyxc.sim.profiles import Profile

_MOST_MAPTRACK_FRAMES = 1024
_PV_MOST_VCPUS = 8192
_HVM_MOST_VCPUS = 128
_GRANT_VERSIONS = (1, 2)
_POINTER = 8
"""Bytes that Xen keeps for each frame that a grant table may have."""
_DEFAULTS_ONLY = (4, 18)
"""Since when the host's limits of grants are only what a domain has that does not ask for others."""
FORMER_MOST_VCPUS = 32
"""Vcpus that every domain had places for before 4.0."""

_LAPIC = 1 << 0
_PIT = 1 << 8
_USE_PIRQ = 1 << 9
_HVM_DEVICES = (1 << 10) - 1
"""Every emulated device but vPCI."""


def most_vcpus(hvm: bool) -> int:
    return _HVM_MOST_VCPUS if hvm else _PV_MOST_VCPUS


def create(xen: Host, domid: int, config: Mapping[str, Any]) -> Domain:
    """A new domain: paused, without memory and vcpus. Refusal (EINVAL) for what it cannot be."""
    try:
        _check_flags(xen.profile, config)
    except Refusal:
        domids.lose(xen, domid)
        raise
    _check_limits(xen, config)
    if xen.domains:
        xen.demand(config["ssidref"], "domain", "create")
    flags = config["flags"]
    hvm = bool(flags & CreateFlag.HVM)
    places = config.get("max_vcpus", 0) if xen.profile.since(4, 0) else FORMER_MOST_VCPUS
    domain = Domain(domid, config["handle"], flags, places, hvm)
    domain.ssidref = config["ssidref"] if xen.policy else 0
    domain.hap = bool(flags & CreateFlag.HAP)
    domain.iommu = bool(flags & CreateFlag.IOMMU)
    domain.emulation_flags = config.get("arch.emulation_flags", 0)
    domain.ports = Ports(config.get("max_evtchn_port", 2**31 - 1))
    domain.max_grant_frames = _limit(config, "max_grant_frames", _grant_frames(xen.profile)[1])
    domain.paging_pages = 256 if domain.hvm else 0
    domain.pool_id = _pool(xen, config.get("cpupool_id", 0))
    _add(xen, domain)
    return domain


def _pool(xen: Host, pool_id: int) -> int:
    """The cpu pool of a new domain, pool 0 before 4.17. Refusal: ESRCH, and ENODEV for one without cpus."""
    if pool_id not in xen.pools:
        raise Refusal(XenErrno.ESRCH)
    if not xen.pools[pool_id].cpus:
        raise Refusal(XenErrno.ENODEV)
    return pool_id


def create_2006(xen: Host, domid: int, handle: bytes) -> Domain:
    """A new domain as dom0_op makes it: with all its limits, and its first vcpu."""
    domain = Domain(domid, handle, 0, FORMER_MOST_VCPUS)
    domain.ports = Ports(2**31 - 1)
    domain.max_grant_frames = _grant_frames(xen.profile)[1]
    domain.sedf = _default_sedf(domid)
    _add(xen, domain)
    add_vcpu_2006(xen, domain, 0)
    return domain


def add_vcpu_2006(xen: Host, domain: Domain, index: int) -> None:
    """A vcpu that may run anywhere. The first one is up, the others are for the guest to bring up."""
    xen.add_vcpu(domain, index).down = index > 0


def _default_sedf(domid: int) -> dict[str, int]:
    """dom0 has most of the time; the others have what is left."""
    period, slice_ = (20_000_000, 15_000_000) if domid == 0 else (100_000_000, 0)
    return {"u.sedf.period": period, "u.sedf.slice": slice_, "u.sedf.latency": 0,
            "u.sedf.extratime": 1, "u.sedf.weight": 0}  # fmt: skip


def _add(xen: Host, domain: Domain) -> None:
    """Give a domain the pages that it shares with Xen, and its place among the others. Refusal (ENOMEM)."""
    pages = 1 + _grant_frames(xen.profile)[0]
    if xen.unclaimed_pages < pages:
        raise Refusal(XenErrno.ENOMEM)
    frames = [xen.machine.allocate_special(domain.domid) for _ in range(pages)]
    domain.shared_info, *domain.grant_frames = (frame for frame in frames if frame is not None)
    domain.unique_id = domids.unique_id(xen)
    xen.domains[domain.domid] = domain
    xen.changed_domids.add(domain.domid)


def _grant_frames(profile: Profile) -> tuple[int, int]:
    """Frames of the grant table that a new domain has, and may have."""
    if profile.since(4, 10):
        return 1, 64
    return 4, 32 if profile.since(3, 1) else 4


def _check_flags(profile: Profile, config: Mapping[str, Any]) -> None:
    """What Xen looks at before it makes anything of a domain."""
    flags = config["flags"]
    hvm, hap = bool(flags & CreateFlag.HVM), bool(flags & CreateFlag.HAP)
    shadows = not profile.since(4, 22) or bool(profile.capabilities & Capability.SHADOW)
    acceptable = (
        not flags & ~int(known_flags(profile)),
        hvm or not hap or not profile.since(4, 12),
        hap or not hvm or shadows,
        hap or not flags & CreateFlag.NESTED_VIRT,
        profile.iommu or not flags & CreateFlag.IOMMU,
        not config.get("iommu_opts"),
        not flags & CreateFlag.VPMU and not config.get("vmtrace_size"),
        0 < config.get("max_vcpus", 1) <= most_vcpus(hvm),
        config.get("arch.misc_flags", 0) in (0, 1),
        not any(config.get(name) for name in ("altp2m_opts", "altp2m.opts", "altp2m.nr")),
        not config.get("grant_opts", 1) & ~GRANT_VERSION_MASK,
    )
    if not all(acceptable):
        raise Refusal(XenErrno.EINVAL)


def _check_limits(xen: Host, config: Mapping[str, Any]) -> None:
    """What turns out when its parts are made."""
    profile = xen.profile
    if "arch.emulation_flags" in config:
        _check_emulation(profile, bool(config["flags"] & CreateFlag.HVM), config["arch.emulation_flags"])
    most_grants = _grant_frames(profile)[1]
    frames = _limit(config, "max_grant_frames", most_grants)
    tracks = _limit(config, "max_maptrack_frames", _MOST_MAPTRACK_FRAMES)
    acceptable = (
        config.get("grant_opts", 1) in _GRANT_VERSIONS,
        frames > 0,
        (frames <= most_grants and tracks <= _MOST_MAPTRACK_FRAMES) or profile.since(*_DEFAULTS_ONLY),
    )
    if not all(acceptable):
        raise Refusal(XenErrno.EINVAL)
    if (frames + tracks) * _POINTER > xen.unclaimed_pages * PAGE_SIZE:
        raise Refusal(XenErrno.ENOMEM)


def known_flags(profile: Profile) -> CreateFlag:
    """What a domain can be created with, on a Xen without tboot: an ordinary build has it up to 4.16."""
    known = CreateFlag.HVM
    newer = (
        ((3, 3), CreateFlag.HAP),
        ((3, 4), CreateFlag.S3_INTEGRITY),
        ((4, 0), CreateFlag.OOS_OFF),
        ((4, 9), CreateFlag.XS_DOMAIN),
        ((4, 13), CreateFlag.IOMMU),
        ((4, 15), CreateFlag.NESTED_VIRT),
        ((4, 16), CreateFlag.VPMU),
    )
    for release, flag in newer:
        if profile.since(*release):
            known |= flag
    return known & ~CreateFlag.S3_INTEGRITY if profile.since(4, 17) else known


def _check_emulation(profile: Profile, hvm: bool, flags: int) -> None:
    if not _emulation_is_known(profile, hvm, flags):
        raise Refusal(XenErrno.EOPNOTSUPP)


def _emulation_is_known(profile: Profile, hvm: bool, flags: int) -> bool:
    if not hvm:
        return flags in (0, _PIT)
    if profile.since(4, 19):
        return flags | _USE_PIRQ == _HVM_DEVICES or flags == _LAPIC
    if profile.since(4, 9):
        return flags in (_HVM_DEVICES, _LAPIC)
    alone = _LAPIC if profile.since(4, 8) else 0
    return flags in (0, _HVM_DEVICES & ~_USE_PIRQ, alone)


def _limit(config: Mapping[str, Any], name: str, default: int) -> int:
    """A limit where a negative number, and a release without the field, mean the host's default."""
    value: int = config.get(name, -1)
    return default if value < 0 else value
