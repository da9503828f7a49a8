# SPDX-License-Identifier: MIT
"""memory_op: memory that is promised to a domain, and memory that it gets when it needs it."""

from __future__ import annotations

from pyxc.abi import memory
from pyxc.abi.errno import XenErrno
from pyxc.sim.model import lifecycle
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.ops.call import Call, handles


@handles(memory.CLAIM_PAGES)
def claim_pages(call: Call) -> None:
    """One claim at a time, for more than the domain owns. An unknown domain is EINVAL here."""
    if call["extent_start"] or call["extent_order"] or call["mem_flags"]:
        raise Refusal(XenErrno.EINVAL)
    domain, pages = call.xen.domains.get(call["domid"]), call["nr_extents"]
    if domain is None or (domain.dying and call.xen.profile.since(4, 20)):
        raise Refusal(XenErrno.EINVAL)
    if pages == 0:
        domain.outstanding_pages = 0
        return
    if domain.outstanding_pages or not domain.tot_pages < pages <= domain.max_pages:
        raise Refusal(XenErrno.EINVAL)
    if pages - domain.tot_pages > call.xen.unclaimed_pages:
        raise Refusal(XenErrno.ENOMEM)
    domain.outstanding_pages = pages - domain.tot_pages


@handles(memory.GET_POD_TARGET)
def get_pod_target(call: Call) -> None:
    _answer(call, _hvm_domain(call))


@handles(memory.SET_POD_TARGET)
def set_pod_target(call: Call) -> None:
    domain, target = _hvm_domain(call), call["target_pages"]
    if target > domain.max_pages:
        raise Refusal(XenErrno.EINVAL)
    if domain.dying:
        _answer(call, domain)
        return
    populated = domain.tot_pages - len(domain.pod_cache)
    if not (populated and not domain.pod_gfns) and target >= domain.tot_pages:
        wanted = target - populated
        _fill(call, domain, min(wanted, len(domain.pod_gfns)) if populated else wanted)
    _answer(call, domain)


def _hvm_domain(call: Call) -> Domain:
    """Up to 4.16 a PV domain could be asked, and had nothing to tell."""
    domain = call.xen.find_any(call["domid"])
    if not domain.hvm and call.xen.profile.since(4, 17):
        raise Refusal(XenErrno.EINVAL)
    return domain


def _fill(call: Call, domain: Domain, wanted: int) -> None:
    """Let the cache have so many pages."""
    while len(domain.pod_cache) < wanted:
        mfn = call.xen.machine.allocate(domain.domid) if domain.tot_pages < domain.max_pages else None
        if mfn is None:
            raise Refusal(XenErrno.ENOMEM)
        domain.own(1)
        domain.pod_cache.append(mfn)
    while len(domain.pod_cache) > wanted:
        mfn = domain.pod_cache.pop()
        lifecycle.take_frames(call.xen, domain, [range(mfn, mfn + 1)])


def _answer(call: Call, domain: Domain) -> None:
    call.answer(
        tot_pages=domain.tot_pages,
        pod_cache_pages=len(domain.pod_cache),
        pod_entries=len(domain.pod_gfns),
    )
