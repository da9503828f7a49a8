# SPDX-License-Identifier: MIT
"""domctl: domains come, stop, change and go."""

from __future__ import annotations

from pyxc.abi import domctl
from pyxc.abi.domctl import Trigger
from pyxc.abi.domctl_create import CreateFlag
from pyxc.abi.domid import DOMID_FIRST_RESERVED, DOMID_SELF
from pyxc.abi.errno import XenErrno
from pyxc.abi.page import PAGE_KB
from pyxc.sim.model import creation, debugging, domids, lifecycle
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.info import domain_info
from pyxc.sim.ops.call import Call, handles

_MOST_PAUSES = 255
_MOST_PAGES = 2**32 - 1


@handles(domctl.CREATEDOMAIN)
def createdomain(call: Call) -> None:
    domid = domids.choose(call.xen, call["domid"])
    domain = creation.create(call.xen, domid, call.fields)
    answer = {"domid": domid}
    if not domain.hvm and call.xen.profile.since(4, 12):
        answer["flags"] = call["flags"] | CreateFlag.OOS_OFF
    call.answer(**answer)


@handles(domctl.DESTROYDOMAIN)
def destroydomain(call: Call) -> None:
    call.not_on_self()
    lifecycle.kill(call.xen, call.domain)


@handles(domctl.PAUSEDOMAIN)
def pausedomain(call: Call) -> None:
    call.not_on_self()
    if not call.xen.profile.since(4, 5):
        call.domain.pauses = 1
    elif call.domain.pauses == _MOST_PAUSES:
        raise Refusal(XenErrno.EOVERFLOW)
    else:
        call.domain.pauses += 1
    call.xen.schedule()


@handles(domctl.UNPAUSEDOMAIN)
def unpausedomain(call: Call) -> None:
    """Before 4.5 a domain was paused or not, however often."""
    if call.domain.pauses == 0 and call.xen.profile.since(4, 5):
        raise Refusal(XenErrno.EINVAL)
    call.domain.pauses = max(0, call.domain.pauses - 1)
    call.domain.started = True
    debugging.run(call.xen, call.domain)
    call.xen.schedule()


@handles(domctl.RESUMEDOMAIN)
def resumedomain(call: Call) -> None:
    if call.xen.profile.since(4, 6):
        call.not_on_self()
    call.domain.shutdown_code = None
    call.xen.schedule()


@handles(domctl.GETDOMAININFO)
def getdomaininfo(call: Call) -> None:
    domain = _domain_at_or_after(call, call["domid"])
    call.answer(domid=domain.domid, **domain_info(call.xen, domain))


def _domain_at_or_after(call: Call, domid: int) -> Domain:
    """Up to 4.17 a free id means the next domain after it; reserved ids are EINVAL there since 4.8."""
    xen = call.xen
    if xen.profile.since(4, 18):
        return xen.find(domid)
    if domid == DOMID_SELF and not xen.profile.since(3, 2):
        return xen.current.domain
    if domid >= DOMID_FIRST_RESERVED and xen.profile.since(4, 8):
        raise Refusal(XenErrno.EINVAL)
    found = next((domain for domain in xen.sorted_domains() if domain.domid >= domid), None)
    if found is None:
        raise Refusal(XenErrno.ESRCH)
    return found


@handles(domctl.MAX_MEM)
def max_mem(call: Call) -> None:
    """Since 4.1 less than it has is allowed: it then cannot grow."""
    pages = call["max_memkb"] // PAGE_KB
    if pages < call.domain.tot_pages and not call.xen.profile.since(4, 1):
        raise Refusal(XenErrno.EINVAL)
    call.domain.max_pages = min(pages, _MOST_PAGES) if call.xen.profile.since(4, 6) else pages & _MOST_PAGES


@handles(domctl.MAX_VCPUS)
def max_vcpus(call: Call) -> None:
    domain, count = call.domain, call["max"]
    call.not_on_self()
    if call.xen.profile.since(4, 12):
        if count != len(domain.vcpus):
            raise Refusal(XenErrno.EINVAL)
    elif call.xen.profile.since(4, 0):
        _set_vcpu_limit(domain, count)
    else:
        _check_vcpus(domain, count)
    for index, vcpu in enumerate(domain.vcpus[:count]):
        if vcpu is None:
            call.xen.add_vcpu(domain, index)
    call.xen.schedule()


def _set_vcpu_limit(domain: Domain, count: int) -> None:
    """Before 4.12 a domain was created without a limit, which max_vcpus set once."""
    if count > creation.most_vcpus(domain.hvm) or count < len(domain.vcpus):
        raise Refusal(XenErrno.EINVAL)
    if domain.vcpus and count > len(domain.vcpus):
        raise Refusal(XenErrno.EBUSY)
    domain.vcpus = domain.vcpus or [None] * count


def _check_vcpus(domain: Domain, count: int) -> None:
    """Before 4.0 every domain had places for 32 vcpus; their number could grow."""
    places = len(domain.vcpus)
    if count > places or (count < places and domain.vcpus[count] is not None):
        raise Refusal(XenErrno.EINVAL)


@handles(domctl.SETDOMAINHANDLE)
def setdomainhandle(call: Call) -> None:
    call.domain.handle = call["handle"]


@handles(domctl.SETDEBUGGING)
def setdebugging(call: Call) -> None:
    call.not_on_self()
    call.domain.debugged = call["enable"]


@handles(domctl.SET_TARGET)
def set_target(call: Call) -> None:
    """Up to 4.9 a PV domain could be one, and up to 4.19 the second was refused whatever it was."""
    domain, profile = call.domain, call.xen.profile
    target = call.xen.find(call["target"])
    again = domain.target is not None
    if target is domain or (again and not profile.since(4, 20)):
        raise Refusal(XenErrno.EINVAL)
    if not target.hvm and profile.since(4, 10):
        raise Refusal(XenErrno.EOPNOTSUPP)
    if again:
        raise Refusal(XenErrno.EINVAL)
    domain.target = target


@handles(domctl.SENDTRIGGER)
def sendtrigger(call: Call) -> None:
    """Xen 3.1 had it on ia64 only, and no button for sleep before 4.0."""
    domain, trigger, profile = call.domain, call["trigger"], call.xen.profile
    if not profile.since(3, 2):
        raise Refusal(XenErrno.ENOSYS)
    if domain.vcpu(call["vcpu"]) is None:
        raise Refusal(XenErrno.ESRCH)
    buttons = (Trigger.POWER, Trigger.SLEEP) if profile.since(4, 0) else (Trigger.POWER,)
    if trigger in buttons and not domain.hvm:
        raise Refusal(XenErrno.EINVAL)
    if trigger != Trigger.NMI and trigger not in buttons:
        raise Refusal(XenErrno.ENOSYS)
    domain.triggered.append((trigger, call["vcpu"]))


@handles(domctl.SET_ADDRESS_SIZE)
def set_address_size(call: Call) -> None:
    """Up to 4.7 a domain without memory could be set back to 64; the width that it has was no exception."""
    domain, size, profile = call.domain, call["size"], call.xen.profile
    if profile.since(4, 14):
        _only_pv(call)
    if profile.since(4, 8) and size == domain.address_size:
        return
    if size != 32 and (size != 64 or profile.since(4, 8)):
        raise Refusal(XenErrno.EINVAL)
    if not profile.pv32:
        raise Refusal(XenErrno.EOPNOTSUPP)
    if domain.tot_pages or domain.hvm:
        raise Refusal(XenErrno.EACCES)
    domain.address_size = size


@handles(domctl.GET_ADDRESS_SIZE)
def get_address_size(call: Call) -> None:
    if call.xen.profile.since(4, 14):
        _only_pv(call)
    call.answer(size=call.domain.address_size)


def _only_pv(call: Call) -> None:
    if call.domain.hvm:
        raise Refusal(XenErrno.EOPNOTSUPP)
