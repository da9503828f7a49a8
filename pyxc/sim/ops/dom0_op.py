# SPDX-License-Identifier: MIT
"""dom0_op: domains come, stop, change and go, as in Xen of spring 2006.

The structure is copied back by those operations only that have something to say.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from pyxc.abi import dom0_ops
from pyxc.abi.domctl import SHUTDOWN_SHIFT, DomainFlag
from pyxc.abi.domid import DOMID_FIRST_RESERVED, DOMID_SELF
from pyxc.abi.errno import XenErrno
from pyxc.sim.model import creation, lifecycle
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host
from pyxc.sim.ops.call import Call, handles

_LAST_PORT = 65536
_KB_PER_PAGE = 4


def domain_of(call: Call) -> Domain:
    """The domain that the structure names. Refusal (ESRCH): it does not exist, or the id is DOMID_SELF."""
    return call.xen.find(call["domid"])


def other_domain_of(call: Call) -> Domain:
    """The same, where it cannot be the one that asks. Refusal (EINVAL)."""
    domain = domain_of(call)
    if domain is call.xen.current.domain:
        raise Refusal(XenErrno.EINVAL)
    return domain


@handles(dom0_ops.CREATEDOMAIN)
def createdomain(call: Call) -> None:
    domain = creation.create_2006(call.xen, _free_domid(call.xen, call["domid"]), call["handle"])
    call.xen.schedule()
    call.answer(domid=domain.domid)


def _free_domid(xen: Host, wanted: int) -> int:
    """The requested id; for 0 and reserved ids, the next free one after the last that was given."""
    if 0 < wanted < DOMID_FIRST_RESERVED:
        if wanted in xen.domains:
            raise Refusal(XenErrno.EINVAL)
        return wanted
    after = chain(range(xen.last_domid + 1, DOMID_FIRST_RESERVED), range(1, xen.last_domid))
    found = next((domid for domid in after if domid not in xen.domains), None)
    if found is None:
        raise Refusal(XenErrno.ENOMEM)
    xen.last_domid = found
    return found


@handles(dom0_ops.DESTROYDOMAIN)
def destroydomain(call: Call) -> None:
    lifecycle.kill(call.xen, other_domain_of(call))


@handles(dom0_ops.PAUSEDOMAIN)
def pausedomain(call: Call) -> None:
    """A domain is paused or not: pauses do not nest."""
    other_domain_of(call).pauses = 1
    call.xen.schedule()


@handles(dom0_ops.UNPAUSEDOMAIN)
def unpausedomain(call: Call) -> None:
    """Not before its first vcpu has registers."""
    domain = other_domain_of(call)
    if domain.live_vcpus[0].context is None:
        raise Refusal(XenErrno.EINVAL)
    domain.pauses = 0
    call.xen.schedule()


@handles(dom0_ops.GETDOMAININFO)
def getdomaininfo(call: Call) -> None:
    """The domain, or the next one after it."""
    asked = call.xen.current.domain.domid if call["domain"] == DOMID_SELF else call["domain"]
    found = next((domain for domain in call.xen.sorted_domains() if domain.domid >= asked), None)
    if found is None:
        raise Refusal(XenErrno.ESRCH)
    call.answer(**_record(call.xen, found))


@handles(dom0_ops.GETDOMAININFOLIST)
def getdomaininfolist(call: Call) -> None:
    layout = call.xen.layout(dom0_ops.GETDOMAININFO_STRUCT)
    following = [domain for domain in call.xen.sorted_domains() if domain.domid >= call["first_domain"]]
    listed = following[: call["max_domains"]]
    records = [layout.pack(_record(call.xen, domain)) for domain in listed]
    call.memory.write(call["buffer"], b"".join(records))
    call.answer(num_domains=len(records))


def _record(xen: Host, domain: Domain) -> dict[str, Any]:
    """struct dom0_getdomaininfo."""
    vcpus = domain.live_vcpus
    online = [vcpu for vcpu in vcpus if not vcpu.down]
    states = (
        (DomainFlag.DYING, domain.dying),
        (DomainFlag.SHUTDOWN, domain.shutdown_code is not None),
        (DomainFlag.PAUSED, domain.pauses > 0),
        (DomainFlag.BLOCKED, all(vcpu.blocked for vcpu in online)),
        (DomainFlag.RUNNING, any(vcpu.running for vcpu in online)),
    )
    flags = sum(flag for flag, holds in states if holds)
    return {
        "domain": domain.domid,
        "flags": flags | (domain.shutdown_code or 0) << SHUTDOWN_SHIFT,
        "tot_pages": domain.tot_pages,
        "max_pages": domain.max_pages,
        "shared_info_frame": domain.shared_info,
        "cpu_time": sum(vcpu.cpu_time_ns(xen.clock_ns) for vcpu in vcpus),
        "nr_online_vcpus": len(online),
        "max_vcpu_id": vcpus[-1].index,
        "ssidref": domain.ssidref,
        "handle": domain.handle,
    }


@handles(dom0_ops.MAX_VCPUS)
def max_vcpus(call: Call) -> None:
    """Before the first vcpu has registers; never fewer than there are."""
    if call["max"] > creation.FORMER_MOST_VCPUS:
        raise Refusal(XenErrno.EINVAL)
    domain = domain_of(call)
    vcpus = domain.live_vcpus
    if vcpus[0].context is not None or call["max"] < len(vcpus):
        raise Refusal(XenErrno.EINVAL)
    for index in range(len(vcpus), call["max"]):
        creation.add_vcpu_2006(call.xen, domain, index)
    call.xen.schedule()


@handles(dom0_ops.SETDOMAINMAXMEM)
def setdomainmaxmem(call: Call) -> None:
    domain, pages = domain_of(call), call["max_memkb"] // _KB_PER_PAGE
    if pages < domain.tot_pages:
        raise Refusal(XenErrno.EINVAL)
    domain.max_pages = pages & 0xFFFFFFFF


@handles(dom0_ops.SETDOMAINHANDLE)
def setdomainhandle(call: Call) -> None:
    domain_of(call).handle = call["handle"]


@handles(dom0_ops.SETDEBUGGING)
def setdebugging(call: Call) -> None:
    """No operation shows it."""
    domain_of(call).debugged = bool(call["enable"])


@handles(dom0_ops.IRQ_PERMISSION)
def irq_permission(call: Call) -> None:
    """As all permissions: no operation shows it, so nothing needs to be kept."""
    domain_of(call)


@handles(dom0_ops.IOMEM_PERMISSION)
def iomem_permission(call: Call) -> None:
    """Of at least one frame, and not beyond the last that there can be."""
    first, last = call["first_mfn"], call["first_mfn"] + call["nr_mfns"] - 1
    if last % 2**64 < first:
        raise Refusal(XenErrno.EINVAL)
    domain_of(call)


@handles(dom0_ops.IOPORT_PERMISSION, arch="x86_64")
def ioport_permission(call: Call) -> None:
    if (call["first_port"] + call["nr_ports"]) % 2**32 > _LAST_PORT:
        raise Refusal(XenErrno.EINVAL)
    domain_of(call)
