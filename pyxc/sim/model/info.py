# SPDX-License-Identifier: MIT
"""struct getdomaininfo, which domctl and sysctl both hand out."""

from __future__ import annotations

from typing import Any

from pyxc.abi import domctl
from pyxc.abi.domctl import SHUTDOWN_SHIFT, DomainFlag
from pyxc.abi.domctl_create import CreateFlag
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host
from pyxc.sim.model.machine import INVALID_ENTRY
from pyxc.sim.profiles import Profile

_NOT_SHUT_DOWN = 0xFFFF
"""From 4.1 on Xen shifts a 32-bit "none" into the place of the 8-bit shutdown code."""
_NO_VCPU = 0xFFFFFFFF
_GPADDR_BITS = 40


def _flags(profile: Profile, domain: Domain) -> int:
    """State and kind. Before 3.3 a domain is blocked also when none of its vcpus is online."""
    online = [vcpu for vcpu in domain.live_vcpus if not vcpu.down]
    can_block = bool(online) or not profile.since(3, 3)
    states = (
        (DomainFlag.DYING, domain.dying),
        (DomainFlag.HVM_GUEST, domain.hvm),
        (DomainFlag.SHUTDOWN, domain.shutdown_code is not None),
        (DomainFlag.PAUSED, domain.pauses > 0),
        (DomainFlag.BLOCKED, can_block and all(vcpu.blocked for vcpu in online)),
        (DomainFlag.RUNNING, any(vcpu.running for vcpu in online)),
        (DomainFlag.DEBUGGED, domain.debugged),
        (DomainFlag.XS_DOMAIN, bool(domain.options & CreateFlag.XS_DOMAIN)),
        (DomainFlag.HAP, domain.hap and profile.since(4, 9)),
    )
    none = _NOT_SHUT_DOWN if profile.since(4, 1) else 0
    code = none if domain.shutdown_code is None else domain.shutdown_code
    return sum(flag for flag, holds in states if holds) | code << SHUTDOWN_SHIFT


def _shared_info_frame(domain: Domain) -> int:
    """Of a translated domain where it put the page, if it did."""
    if not domain.hvm:
        return domain.shared_info
    placed = domain.p2m.gfn_of(domain.shared_info)
    return INVALID_ENTRY if placed is None else placed


def domain_info(xen: Host, domain: Domain) -> dict[str, Any]:
    """The record of one domain: the fields that this release fills.

    Before 4.5 it leaves `max_vcpu_id` as it finds it when the domain has no vcpu.
    """
    layout = xen.layout(domctl.GETDOMAININFO_STRUCT)
    vcpus = domain.live_vcpus
    fields: dict[str, Any] = {
        "domain": domain.domid,
        "flags": _flags(xen.profile, domain),
        "tot_pages": domain.tot_pages,
        "max_pages": domain.max_pages,
        "shared_info_frame": _shared_info_frame(domain),
        "cpu_time": sum(vcpu.cpu_time_ns(xen.clock_ns) for vcpu in vcpus),
        "nr_online_vcpus": sum(not vcpu.down for vcpu in vcpus),
        "ssidref": domain.ssidref,
        "handle": domain.handle,
    }
    if vcpus or xen.profile.since(4, 5):
        fields["max_vcpu_id"] = vcpus[-1].index if vcpus else _NO_VCPU
    optional = {
        "outstanding_pages": domain.outstanding_pages,
        "cpupool": domain.pool_id,
        "gpaddr_bits": _GPADDR_BITS,
        "arch_config.emulation_flags": domain.emulation_flags,
    }
    fields.update({name: value for name, value in optional.items() if name in layout.index})
    return fields
