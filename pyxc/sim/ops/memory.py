# SPDX-License-Identifier: MIT
"""memory_op: giving and taking memory, and how much there is."""

from __future__ import annotations

from collections.abc import Callable

from pyxc.abi import memory
from pyxc.abi.arch import x86
from pyxc.abi.memory import MemFlag
from pyxc.sim.model import lifecycle
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.model.frame_set import FrameSet
from pyxc.sim.model.machine import GUEST_FRAMES
from pyxc.sim.ops.call import Call, handles

_MOST_ORDER = 18
_MOST_EXTENTS = (2**32 - 1) >> 6
_LARGE, _HUGE = 9, 18
_M2P_FRAMES_PER_EXTENT = 512

Extent = Callable[[Call, Domain, int], bool]
"""Does one extent, given its index; False ends the operation."""


def _each_extent(call: Call, do: Extent) -> int:
    """How many extents could be done. No failure is an error: the count is just short.

    Xen of 2006 knew one error: an unknown domain.
    """
    try:
        domain = call.xen.find_any(call["domid"])
    except Refusal:
        if call.xen.profile.dom0_op:
            raise
        return 0
    if call["nr_extents"] > _MOST_EXTENTS or call["extent_order"] > _MOST_ORDER:
        return 0
    for index in range(call["nr_extents"]):
        try:
            if not do(call, domain, index):
                return index
        except Refusal:
            return index
    return int(call["nr_extents"])


def _frame(call: Call, index: int) -> int:
    return call.xen.machine.words.unpack(call.memory.read(call["extent_start"] + 8 * index, 8))[0]


def _put_frame(call: Call, index: int, frame: int) -> None:
    call.memory.write(call["extent_start"] + 8 * index, call.xen.machine.words.pack([frame]))


def _allocate(call: Call, domain: Domain) -> int | None:
    """The first frame of an extent within the domain's limit, None when there can be no more."""
    order = call["extent_order"]
    if domain.dying or domain.tot_pages + (1 << order) > domain.max_pages:
        return None
    if domain.outstanding_pages < 1 << order > call.xen.unclaimed_pages:
        return None
    mfn = call.xen.machine.allocate(domain.domid, order)
    if mfn is not None:
        domain.own(1 << order)
    return mfn


@handles(memory.POPULATE_PHYSMAP)
def populate_physmap(call: Call) -> int:
    return _each_extent(call, _populate)


def _populate(call: Call, domain: Domain, index: int) -> bool:
    gfn, order = _frame(call, index), call["extent_order"]
    return _populate_hvm(call, domain, gfn, order) if domain.hvm else _populate_pv(call, domain, index, gfn)


def _populate_pv(call: Call, domain: Domain, index: int, pfn: int) -> bool:
    """Whatever the guest calls the first page, and those behind it: the M2P takes any number."""
    mfn = _allocate(call, domain)
    if mfn is None:
        return False
    pfns = range(pfn, pfn + (1 << call["extent_order"]))
    fits = pfns.stop <= 1 << 64
    call.xen.machine.set_m2p_run(mfn, pfns if fits else [pfn % (1 << 64) for pfn in pfns])
    _put_frame(call, index, mfn)
    return True


def _populate_hvm(call: Call, domain: Domain, gfn: int, order: int) -> bool:
    gfns = range(gfn, gfn + (1 << order))
    if domain.dying or gfns.stop > GUEST_FRAMES or not _grow_paging(domain, gfn, order):
        return False
    if call.fields.get("mem_flags", 0) & MemFlag.POPULATE_ON_DEMAND:
        if domain.p2m.gfns.meets(gfns):
            return False
        domain.pod_gfns.add(gfns)
        domain.highest_gfn = max(domain.highest_gfn, gfns[-1])
        return True
    mfn = _allocate(call, domain)
    if mfn is None:
        return False
    domain.place(gfn, mfn, len(gfns))
    if domain.dirty is not None and call.xen.profile.since(4, 18):
        domain.dirty.update(gfns)
    return True


def _grow_paging(domain: Domain, gfn: int, order: int) -> bool:
    """Take the pages that the nested page tables of an extent need; False when the pool has too few."""
    tables = {(3, gfn >> 27)}
    if order < _HUGE:
        tables.add((2, gfn >> 18))
    if order < _LARGE:
        tables.add((1, gfn >> 9))
    if len(domain.paging_tables) + len(tables - domain.paging_tables) > domain.paging_pages:
        return False
    domain.paging_tables |= tables
    return True


@handles(memory.INCREASE_RESERVATION)
def increase_reservation(call: Call) -> int:
    return _each_extent(call, _increase)


def _increase(call: Call, domain: Domain, index: int) -> bool:
    mfn = _allocate(call, domain)
    if mfn is None:
        return False
    if not domain.hvm and call["extent_start"]:
        _put_frame(call, index, mfn)
    return True


@handles(memory.DECREASE_RESERVATION)
def decrease_reservation(call: Call) -> int:
    return _each_extent(call, _decrease)


def _decrease(call: Call, domain: Domain, index: int) -> bool:
    """The frames of an extent up to the first that the domain has not, or cannot give."""
    first = _frame(call, index)
    frames = range(first, first + (1 << call["extent_order"]))
    if domain.hvm:
        return _decrease_hvm(call, domain, frames)
    given = call.xen.machine.memory_from(domain.domid, frames)
    lifecycle.take_frames(call.xen, domain, [given])
    return given == frames


def _decrease_hvm(call: Call, domain: Domain, gfns: range) -> bool:
    """What would have been populated on demand is not any more."""
    machine = call.xen.machine
    given, done = FrameSet(), 0
    for gfn in gfns:
        mfn = domain.p2m.get(gfn)
        if mfn is None and gfn not in domain.pod_gfns:
            break
        if mfn is not None:
            if mfn in machine.special:
                break
            domain.p2m.take(gfn)
            given.add(range(mfn, mfn + 1))
        done += 1
    domain.pod_gfns.remove(gfns[:done])
    lifecycle.take_frames(call.xen, domain, given.runs)
    return done == len(gfns)


@handles(memory.MAXIMUM_RAM_PAGE)
def maximum_ram_page(call: Call) -> int:
    return call.xen.machine.frames


@handles(memory.CURRENT_RESERVATION)
def current_reservation(call: Call) -> int:
    return call.xen.find_any(call["domid"]).tot_pages


@handles(memory.MAXIMUM_RESERVATION)
def maximum_reservation(call: Call) -> int:
    return call.xen.find_any(call["domid"]).max_pages


@handles(memory.MAXIMUM_GPFN)
def maximum_gpfn(call: Call) -> int:
    """What the p2m of a translated domain reached; a PV guest says itself how many pfns it has."""
    domain = call.xen.find_any(call["domid"])
    if domain.hvm:
        return domain.highest_gfn
    wide = domain.address_size == 64
    layout = call.xen.layout(x86.SHARED_INFO_STRUCT if wide else x86.SHARED_INFO_32_STRUCT)
    page = call.xen.machine.memory.read(domain.shared_info, 0, layout.size)
    count: int = layout.unpack(page)["arch.max_pfn"]
    return (count or 1) - 1 if call.xen.profile.since(4, 3) else count - 1


@handles(memory.MACHPHYS_MFN_LIST)
def machphys_mfn_list(call: Call) -> None:
    """The first frame of every 2 MiB of the M2P, to be mapped as DOMID_XEN's."""
    chunks = list(call.xen.machine.m2p_frames[::_M2P_FRAMES_PER_EXTENT])[: call["max_extents"]]
    call.memory.write(call["extent_start"], call.xen.machine.words.pack(chunks))
    call.answer(nr_extents=len(chunks))
