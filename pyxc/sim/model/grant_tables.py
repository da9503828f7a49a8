# SPDX-License-Identifier: MIT
"""The frames of grant tables, as a resource that can be mapped."""

from __future__ import annotations

from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host

SHARED, _STATUS = 0, 1
ENTRIES_PER_FRAME = 512
"""Of a table of version 1."""
_LARGE_ENTRIES_PER_FRAME = 256
"""Of version 2, in which alone there are status frames."""
_STATUS_PER_FRAME = 2048
_MOST_AT_ONCE = 32
"""Frames that Xen mapped in one call before 4.15."""


def resource_frames(domain: Domain, ident: int) -> int:
    """Frames that the shared table or the status frames can have, 0 for another id."""
    if ident == SHARED:
        return domain.max_grant_frames
    if ident == _STATUS:
        return -(-domain.max_grant_frames * _LARGE_ENTRIES_PER_FRAME // _STATUS_PER_FRAME)
    return 0


def acquire(xen: Host, domain: Domain, ident: int, first: int, count: int) -> list[int]:
    """Machine frames of a domain's grant table, which grows as needed. Refusal (EINVAL, E2BIG)."""
    if not xen.profile.since(4, 15) and count > _MOST_AT_ONCE:
        raise Refusal(XenErrno.E2BIG)
    if ident != SHARED or not 0 < count <= domain.max_grant_frames - first:
        raise Refusal(XenErrno.EINVAL)
    if first + count - len(domain.grant_frames) > xen.unclaimed_pages:
        raise Refusal(XenErrno.ENOMEM)
    while len(domain.grant_frames) < first + count:
        frame = xen.machine.allocate_special(domain.domid)
        if frame is None:
            raise Refusal(XenErrno.ENOMEM)
        domain.grant_frames.append(frame)
    return domain.grant_frames[first : first + count]
