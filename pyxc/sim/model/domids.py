# SPDX-License-Identifier: MIT
"""The ids of new domains, and when the id of a domain that has gone becomes free."""

from __future__ import annotations

import math

from pyxc.abi.domid import DOMID_ANY, DOMID_FIRST_RESERVED
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.host import Host

_GRACE_NS = 35_000
"""How long the last step of a domain's end takes: a few hypercalls."""
_U64_MAX = 2**64 - 1
_BITMAP = (4, 21)
"""Since when Xen keeps the ids in use apart from the domains."""


def choose(host: Host, wanted: int) -> int:
    """The id for a new domain: the requested one, or the next free one after the last chosen.

    Refusal (EEXIST; up to 4.13 EINVAL): it is taken. Since 4.22 only DOMID_ANY leaves the choice to Xen.
    """
    if _leaves_the_choice(host, wanted):
        return _next(host)
    if not (wanted < DOMID_FIRST_RESERVED and is_free(host, wanted)):
        raise Refusal(XenErrno.EEXIST if host.profile.since(4, 14) else XenErrno.EINVAL)
    return wanted


def _leaves_the_choice(host: Host, wanted: int) -> bool:
    if host.profile.since(4, 22):
        return wanted == DOMID_ANY
    return wanted == 0 or wanted >= DOMID_FIRST_RESERVED


def _next(host: Host) -> int:
    first = host.last_domid + 1
    after: list[int] = [*range(first, DOMID_FIRST_RESERVED), *range(1, first)]
    found = next((domid for domid in after if is_free(host, domid)), None)
    if found is None:
        raise Refusal(XenErrno.EEXIST if host.profile.since(*_BITMAP) else XenErrno.ENOMEM)
    host.last_domid = found
    return found


def is_free(host: Host, domid: int) -> bool:
    return domid not in host.domains and host.held_domids.get(domid, 0) <= host.clock_ns


def leave(host: Host, domid: int) -> None:
    """After a domain has gone: since 4.21 its id becomes free after a grace period of all cpus (RCU)."""
    if host.profile.since(*_BITMAP):
        host.held_domids[domid] = host.clock_ns + _GRACE_NS


def unique_id(host: Host) -> int:
    """The number of a new domain, which no other has until 2**64 - 1 are used up (Marsaglia's xorshift)."""
    number = host.last_unique_id
    for shift in (13, -7, 17):
        number ^= (number << shift if shift > 0 else number >> -shift) & _U64_MAX
    host.last_unique_id = number
    return number


def lose(host: Host, domid: int) -> None:
    """After createdomain was refused: since 4.21 Xen takes the id first, and does not give it back."""
    if host.profile.since(*_BITMAP):
        host.held_domids[domid] = math.inf
