# SPDX-License-Identifier: MIT
"""How domains of a simulated host stop and end."""

from __future__ import annotations

from collections.abc import Iterable

from pyxc.abi.event_channel import Virq
from pyxc.sim.model import channels, domids, grants
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.frame_set import FrameSet
from pyxc.sim.model.host import Host


def shut_down(host: Host, domain: Domain, reason: int) -> None:
    """Stop a domain. The first reason stays."""
    if domain.shutdown_code is None:
        domain.shutdown_code = reason & 0xFF
        host.changed_domids.add(domain.domid)
        channels.raise_virq(host, Virq.DOM_EXC)
    host.schedule()


def kill(host: Host, domain: Domain) -> None:
    """Destroy a domain. It remains, dying, while its memory is mapped; its address space ends at once."""
    domain.dying = True
    host.changed_domids.add(domain.domid)
    domain.outstanding_pages = 0
    domain.p2m.clear()
    domain.pod_cache.clear()
    domain.pod_gfns, domain.leaving = FrameSet(), FrameSet()
    domain.paging_tables.clear()
    host.pci.update({device: 0 for device, owner in host.pci.items() if owner == domain.domid})
    channels.close_all(host, domain)
    take_frames(host, domain, host.machine.frames_of(domain.domid).runs)
    host.schedule()
    channels.raise_virq(host, Virq.DOM_EXC)
    reap(host)


def take_frames(host: Host, domain: Domain, runs: Iterable[range]) -> None:
    """Free frames of a domain; those that are mapped from outside stay its own until the mapping goes."""
    leaving = FrameSet(*runs)
    for mfn in host.holdings.frames_of(domain.domid):
        if mfn in leaving:
            leaving.remove(range(mfn, mfn + 1))
            domain.leaving.add(range(mfn, mfn + 1))
    domain.own(sum(mfn in leaving for mfn in host.machine.special) - len(leaving))
    host.machine.release(domain.domid, leaving)


def reap(host: Host) -> None:
    """After mappings may have gone: end what they lent, let go what nothing holds, frames and domains."""
    for holding in host.holdings.ended():
        grants.revoke(host, holding.lent)
    for domain in [domain for domain in host.domains.values() if domain.leaving and not domain.dying]:
        leaving, domain.leaving = domain.leaving, FrameSet()
        take_frames(host, domain, leaving.runs)
    for domain in [domain for domain in host.domains.values() if domain.dying]:
        take_frames(host, domain, host.machine.frames_of(domain.domid).runs)
        targeted = any(other.target is domain for other in host.domains.values())
        if not host.machine.frames_of(domain.domid) and not targeted:
            del host.domains[domain.domid]
            domids.leave(host, domain.domid)
            host.changed_domids.add(domain.domid)
            channels.raise_virq(host, Virq.DOM_EXC)
