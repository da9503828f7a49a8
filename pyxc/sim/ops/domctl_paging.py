# SPDX-License-Identifier: MIT
"""domctl: memory for the page tables that Xen keeps for a domain, and which of its pages are written."""

from __future__ import annotations

from pyxc.abi import domctl_paging
from pyxc.abi.domctl_paging import LOGDIRTY_FINAL, ShadowMode, ShadowOp
from pyxc.abi.errno import XenErrno
from pyxc.abi.sysctl import Capability
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.ops.call import Call, handles

_PAGES_PER_MIB = 256


@handles(
    domctl_paging.SHADOW_OP_OFF,
    domctl_paging.SHADOW_OP_ENABLE_TEST,
    domctl_paging.SHADOW_OP_ENABLE_LOGDIRTY,
    domctl_paging.SHADOW_OP_CLEAN,
    domctl_paging.SHADOW_OP_PEEK,
    domctl_paging.SHADOW_OP_GET_ALLOCATION,
    domctl_paging.SHADOW_OP_SET_ALLOCATION,
    domctl_paging.SHADOW_OP_ENABLE,
)
def shadow_op(call: Call) -> None:
    """Nothing is done to a dying domain; up to 4.19 that was no error."""
    domain, op = call.domain, call["op"]
    call.not_on_self()
    if domain.dying and not call.xen.profile.since(4, 20):
        return
    if domain.dying or domain.vcpu(0) is None:
        raise Refusal(XenErrno.EINVAL)
    if op == ShadowOp.ENABLE and call["mode"] & ShadowMode.LOG_DIRTY:
        op = ShadowOp.ENABLE_LOGDIRTY
    both = {
        ShadowOp.CLEAN: _read_dirty,
        ShadowOp.PEEK: _read_dirty,
        ShadowOp.ENABLE_LOGDIRTY: _log_dirty,
    }
    shadowed_or_hap = {
        ShadowOp.OFF: _off,
        ShadowOp.GET_ALLOCATION: _allocation,
        ShadowOp.SET_ALLOCATION: _allocation,
        ShadowOp.ENABLE: _shadow,
        ShadowOp.ENABLE_TEST: _shadow,
    }
    known = {**both, **shadowed_or_hap} if domain.hvm or _has_shadows(call) else both
    if op not in known:
        raise Refusal(XenErrno.EINVAL)
    known[op](call, domain)


def _has_shadows(call: Call) -> bool:
    """Whether it was built with shadow page tables, which became optional long before this was reported."""
    profile = call.xen.profile
    return not profile.since(4, 13) or bool(profile.capabilities & Capability.SHADOW)


def _shadow(call: Call, domain: Domain) -> None:
    """Shadow page tables for a PV domain, which can run with them as well."""
    if domain.hvm or domain.shadowed or call["mode"]:
        raise Refusal(XenErrno.EINVAL)
    domain.shadowed, domain.paging_pages = True, max(_PAGES_PER_MIB, domain.paging_pages)


def _log_dirty(call: Call, domain: Domain) -> None:
    """A PV domain needs shadow page tables for it."""
    if domain.dirty is not None or domain.domid in call.xen.pci.values():
        raise Refusal(XenErrno.EINVAL)
    if not domain.hvm and not _has_shadows(call):
        raise Refusal(XenErrno.EOPNOTSUPP)
    domain.dirty = set()
    if not domain.hvm:
        domain.paging_pages = max(_PAGES_PER_MIB, domain.paging_pages)


def _off(call: Call, domain: Domain) -> None:
    if not domain.hvm and (domain.shadowed or domain.dirty is not None):
        domain.shadowed, domain.paging_pages = False, 0
    domain.dirty = None


def _read_dirty(call: Call, domain: Domain) -> None:
    """Whole bytes are written, as far as there is memory. No page is dirty while the mode is off."""
    if call["mode"] & ~LOGDIRTY_FINAL:
        raise Refusal(XenErrno.EINVAL)
    pages, dirty = call["pages"], domain.dirty or set()
    if call["dirty_bitmap"] and pages:
        size = -(-pages // 8)
        reached = min(size, call.memory.room(call["dirty_bitmap"]))
        bitmap = bytearray(reached)
        for frame in dirty:
            if frame < 8 * reached:
                bitmap[frame // 8] |= 1 << frame % 8
        call.memory.fill(call["dirty_bitmap"], size, bitmap)
    call.answer(**{"stats.dirty_count": len(dirty), "stats.fault_count": len(dirty)})
    if call["op"] == ShadowOp.CLEAN:
        dirty.clear()


def _allocation(call: Call, domain: Domain) -> None:
    if call["op"] == ShadowOp.SET_ALLOCATION:
        _set_paging_pool(domain, call["mb"] * _PAGES_PER_MIB)
    call.answer(mb=-(-domain.paging_pages // _PAGES_PER_MIB))


@handles(domctl_paging.GET_PAGING_MEMPOOL_SIZE)
def get_paging_mempool_size(call: Call) -> None:
    _only_hvm(call)
    call.answer(size=call.domain.paging_pages * 4096)


@handles(domctl_paging.SET_PAGING_MEMPOOL_SIZE)
def set_paging_mempool_size(call: Call) -> None:
    _only_hvm(call)
    pages, rest = divmod(call["size"], 4096)
    if rest or pages >= 2**32:
        raise Refusal(XenErrno.EINVAL)
    _set_paging_pool(call.domain, pages)


def _set_paging_pool(domain: Domain, pages: int) -> None:
    if pages < len(domain.paging_tables):
        raise Refusal(XenErrno.ENOMEM)
    domain.paging_pages = pages


def _only_hvm(call: Call) -> None:
    if not call.domain.hvm:
        raise Refusal(XenErrno.EOPNOTSUPP)
