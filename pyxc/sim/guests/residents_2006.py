# SPDX-License-Identifier: MIT
"""The domains on a simulated host of 2006: dom0 and PV guests, on PowerPC or x86.

On PowerPC a guest publishes no p2m: only Xen knows its frames. On x86 it publishes a tree of frames.
"""

from __future__ import annotations

from uuid import UUID

from pyxc.sim.guests import pv, residents, toolstack
from pyxc.sim.model import context_2006, creation
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host
from pyxc.sim.xenstored import Xenstored

_ROUNDS = 4
"""Guests got their memory in so many pieces, in turns."""
_SLACK = 256


def start_dom0(xen: Host, store: Xenstored) -> None:
    """A dom0 with all of its memory in one piece."""
    dom0 = _new(xen, UUID(int=0), vcpus=2)
    _furnish(xen, dom0, [xen.machine.allocate_run(0, residents.DOM0_PAGES)])
    dom0.max_pages, dom0.pauses = residents.UNLIMITED, 0
    residents.hold_virqs(dom0)
    dom0.live_vcpus[1].blocked = True
    toolstack.init_dom0(store)
    xen.schedule()


def start_guests(xen: Host, store: Xenstored) -> None:
    """An idle guest, a busy one and a paused one; on a host with enough memory also a large one."""
    web1 = _new(xen, UUID("6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01"), vcpus=2)
    db1 = _new(xen, UUID("b84e7c10-2f6d-4d0a-9a3e-51c2d3e4f502"), vcpus=1)
    build = _new(xen, UUID("0c9d5e7f-77aa-4b3c-b1f4-3e2d1c0b9a03"), vcpus=1)
    pages = {web1: 16_384, db1: 32_768, build: 8_192}
    if xen.profile.large_guest_pages:
        large1 = _new(xen, UUID("d27f4a90-3c58-4e6b-8f07-64a1b2c3d404"), vcpus=1)
        pages[large1] = xen.profile.large_guest_pages
    _give_memory(xen, pages)
    for domain in pages:
        domain.pauses = 0
    build.pauses = 1
    for vcpu in web1.live_vcpus:
        vcpu.blocked = True
    for name, domain in zip(("web1", "db1", "build", "large1"), pages):
        toolstack.introduce(store, domain, name)
    xen.last_domid = max(xen.domains)
    xen.schedule()


def _new(xen: Host, uuid: UUID, vcpus: int) -> Domain:
    domain = creation.create_2006(xen, len(xen.domains), uuid.bytes)
    for index in range(1, vcpus):
        creation.add_vcpu_2006(xen, domain, index)
    residents.settle(domain)
    if domain.domid:
        residents.connect(xen, domain)
    return domain


def _give_memory(xen: Host, pages: dict[Domain, int]) -> None:
    runs: dict[Domain, list[range]] = {domain: [] for domain in pages}
    for _ in range(_ROUNDS):
        for domain, count in pages.items():
            runs[domain].append(xen.machine.allocate_run(domain.domid, count // _ROUNDS))
    for domain, count in pages.items():
        domain.max_pages = count + _SLACK
        _furnish(xen, domain, runs[domain])


def _furnish(xen: Host, domain: Domain, runs: list[range]) -> None:
    """Let a kernel run in a domain's memory."""
    if xen.profile.arch == "ppc64":
        domain.tot_pages = sum(map(len, runs))
        xen.machine.memory.write(runs[0].start, 0, f"domain {domain.domid}: simulated kernel".encode())
        for vcpu in domain.live_vcpus:
            vcpu.context = context_2006.powerpc_kernel(xen, vcpu.index)
    else:
        p2m = pv.P2m()
        p2m.map(*runs)
        pv.furnish(xen, domain, p2m, linear=False)
