# SPDX-License-Identifier: MIT
"""domctl get_domain_state: who a domain is, and which domains changed since xenstored asked."""

from __future__ import annotations

from pyxc.abi.domctl_state import GET_DOMAIN_STATE, StateCap, StateFlag
from pyxc.abi.domid import DOMID_INVALID
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.ops.call import Call, handles

_DOM0 = StateCap.CONTROL | StateCap.HARDWARE | StateCap.XENSTORE


@handles(GET_DOMAIN_STATE)
def get_domain_state(call: Call) -> None:
    """Of one domain; DOMID_INVALID means the next that changed, and forgets that it did."""
    xen = call.xen
    domid = call["domid"]
    if domid != DOMID_INVALID:
        domain = xen.find(domid)
        xen.demand(domain.ssidref, "domain2", "get_domain_state")
        call.answer(**_state(domain))
        return
    if not xen.changed_domids:
        raise Refusal(XenErrno.ENOENT)
    changed = min(xen.changed_domids)
    xen.changed_domids.remove(changed)
    call.replace({"cmd": GET_DOMAIN_STATE.command, "domid": changed, **_state(xen.domains.get(changed))})


def _state(domain: Domain | None) -> dict[str, int]:
    """A domain that has gone has no state, capabilities and number."""
    if domain is None:
        return {"state": 0, "caps": 0, "unique_id": 0}
    flags = StateFlag.EXIST
    if domain.shutdown_code is not None:
        flags |= StateFlag.SHUTDOWN
    if domain.dying:
        flags |= StateFlag.DEAD
    return {"state": flags, "caps": 0 if domain.domid else _DOM0, "unique_id": domain.unique_id}
