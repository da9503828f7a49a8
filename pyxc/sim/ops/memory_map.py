# SPDX-License-Identifier: MIT
"""memory_op: a guest's memory map, and special pages in its address space."""

from __future__ import annotations

from pyxc.abi import memory
from pyxc.abi.errno import XenErrno
from pyxc.abi.memory import MapSpace
from pyxc.sim.model import grant_tables, lifecycle
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.machine import GUEST_FRAMES
from pyxc.sim.ops.call import Call, handles

_INVALID_GFN = 2**64 - 1


@handles(memory.SET_MEMORY_MAP)
def set_memory_map(call: Call) -> None:
    """The contents of entries are not checked. Before 4.6 hvmloader had the map of HVM domains."""
    profile, count = call.xen.profile, call["map.nr_entries"]
    if count > (1024 if profile.since(4, 9) else 128 if profile.since(4, 2) else 3):
        raise Refusal(XenErrno.EINVAL)
    domain = call.xen.find_any(call["domid"])
    if domain.hvm and (4, 2) <= profile.xen < (4, 6):
        raise Refusal(XenErrno.EPERM)
    layout = call.xen.layout(memory.MEMORY_MAP_ENTRY_STRUCT)
    data = call.memory.read(call["map.buffer"], layout.size * count)
    domain.e820 = [layout.unpack(data, index * layout.size) for index in range(count)]


@handles(memory.ADD_TO_PHYSMAP)
def add_to_physmap(call: Call) -> None:
    """A range is done page by page, up to the first that cannot be."""
    domain, gfn = _translated(call), call["gpfn"]
    if call["space"] != MapSpace.GMFN_RANGE or not call.xen.profile.since(4, 2):
        _add(call, domain, call["space"], call["idx"], gfn)
        return
    if max(gfn, call["idx"]) + call["size"] > 1 << 64:
        raise Refusal(XenErrno.EOVERFLOW)
    for place in range(call["size"]):
        _add(call, domain, MapSpace.GMFN, call["idx"] + place, gfn + place)


def _add(call: Call, domain: Domain, space: int, index: int, gfn: int) -> None:
    """One page. What is dying has no page tables any more, and gets none."""
    if gfn == _INVALID_GFN:
        raise Refusal(XenErrno.EINVAL)
    if domain.dying:
        raise Refusal(XenErrno.ENOMEM)
    mfn = _frame(call, domain, space, index)
    if gfn >= GUEST_FRAMES:
        raise Refusal(XenErrno.ENOENT)
    _place(call, domain, mfn, gfn)


def _translated(call: Call) -> Domain:
    domain = call.xen.find_any(call["domid"])
    if not domain.hvm:
        raise Refusal(XenErrno.EACCES if call.xen.profile.since(4, 6) else XenErrno.EINVAL)
    return domain


def _frame(call: Call, domain: Domain, space: int, index: int) -> int:
    """The machine frame that is meant."""
    if space == MapSpace.SHARED_INFO and index == 0:
        return domain.shared_info
    if space == MapSpace.GRANT_TABLE:
        return grant_tables.acquire(call.xen, domain, 0, index, 1)[0]
    if space == MapSpace.GMFN_FOREIGN:
        raise Refusal(XenErrno.ENOSYS)
    if space == MapSpace.GMFN and domain.machine_frame(index) >= 0:
        return domain.machine_frame(index)
    empty = space == MapSpace.GMFN and call.xen.profile.since(4, 20)
    raise Refusal(XenErrno.EACCES if empty else XenErrno.EINVAL)


def _place(call: Call, domain: Domain, mfn: int, gfn: int) -> None:
    """A page is at one place only; memory that was there is freed."""
    former = domain.p2m.gfn_of(mfn)
    if former is not None:
        domain.p2m.take(former)
    remove(call, domain, gfn)
    domain.place(gfn, mfn, 1)


def remove(call: Call, domain: Domain, gfn: int) -> None:
    domain.pod_gfns.remove(range(gfn, gfn + 1))
    mfn = domain.p2m.take(gfn)
    if mfn is not None and mfn not in call.xen.machine.special:
        lifecycle.take_frames(call.xen, domain, [range(mfn, mfn + 1)])


@handles(memory.REMOVE_FROM_PHYSMAP)
def remove_from_physmap(call: Call) -> None:
    """The page stays the domain's; it only has no place any more."""
    domain = _translated(call)
    if domain.p2m.take(call["gpfn"]) is None:
        raise Refusal(XenErrno.ENOENT)
