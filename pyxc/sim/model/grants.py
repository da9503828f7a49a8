# SPDX-License-Identifier: MIT
"""Grants on the simulated host: what an entry allows to whom, and pages that dom0 lends."""

from __future__ import annotations

from collections.abc import Iterable

from pyxc.abi.domid import DOMID_SELF
from pyxc.abi.errno import XenErrno
from pyxc.abi.grant_table import ENTRY_V1_STRUCT, PERMIT_ACCESS, READONLY
from pyxc.sim.model import grant_tables
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.host import Host

_TYPE_MASK = 3
_RESERVED = 8
"""References that no kernel gives out by itself."""
_BLANK = bytes(8)


def _place(domain: Domain, ref: int) -> tuple[int, int]:
    """Frame and offset of an entry. Refusal (EINVAL) beyond the table."""
    frame, index = divmod(ref, grant_tables.ENTRIES_PER_FRAME)
    if frame >= len(domain.grant_frames):
        raise Refusal(XenErrno.EINVAL)
    return domain.grant_frames[frame], index * 8


def frame_of(xen: Host, domain: Domain, ref: int, writable: bool) -> int:
    """The machine frame that a domain lends to the caller. Refusal (EINVAL), whatever is wrong with it."""
    layout = xen.layout(ENTRY_V1_STRUCT)
    entry = layout.unpack(xen.machine.memory.read(*_place(domain, ref), layout.size))
    mfn = domain.machine_frame(entry["frame"])
    allowed = (
        entry["flags"] & _TYPE_MASK == PERMIT_ACCESS,
        not (writable and entry["flags"] & READONLY),
        entry["domid"] == xen.current.domain.domid,
        xen.machine.owned_by(mfn, domain.domid),
    )
    if not all(allowed):
        raise Refusal(XenErrno.EINVAL)
    return mfn


def lend(xen: Host, domid: int, count: int, writable: bool) -> tuple[list[int], list[int]]:
    """References and frames of dom0's own, blank and lent to a domain."""
    own = xen.current.domain
    layout = xen.layout(ENTRY_V1_STRUCT)
    frames = _unused(xen, own, count)
    refs = _free_refs(xen, own, count)
    xen.machine.write_pages(frames, bytes(4096 * count))
    for ref, frame in zip(refs, frames):
        flags = PERMIT_ACCESS if writable else PERMIT_ACCESS | READONLY
        entry = layout.pack({"flags": flags, "domid": domid, "frame": frame})
        xen.machine.memory.write(*_place(own, ref), entry)
    return refs, frames


def _unused(xen: Host, own: Domain, count: int) -> list[int]:
    """The last of its frames that it has not lent: somewhere a kernel finds a free page."""
    busy = xen.holdings.frames_of(DOMID_SELF)
    found = []
    for run in reversed(xen.machine.frames_of(own.domid).runs):
        for frame in reversed(run):
            if frame not in busy:
                found.append(frame)
            if len(found) == count:
                return found
    raise Refusal(XenErrno.ENOMEM)


def _free_refs(xen: Host, own: Domain, count: int) -> list[int]:
    """The lowest references that are not in use; the table grows for them. Refusal (ENOSPC)."""
    found: list[int] = []
    for ref in range(_RESERVED, own.max_grant_frames * grant_tables.ENTRIES_PER_FRAME):
        needed = ref // grant_tables.ENTRIES_PER_FRAME + 1
        grant_tables.acquire(xen, own, grant_tables.SHARED, needed - 1, 1)
        if xen.machine.memory.read(*_place(own, ref), 8) == _BLANK:
            found.append(ref)
        if len(found) == count:
            return found
    raise Refusal(XenErrno.ENOSPC)


def revoke(xen: Host, refs: Iterable[int]) -> None:
    """dom0 stops lending them."""
    for ref in refs:
        xen.machine.memory.write(*_place(xen.domains[0], ref), _BLANK)
