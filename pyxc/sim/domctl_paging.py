# SPDX-License-Identifier: MIT
"""domctl: memory for the page tables that Xen keeps for a domain, and which of its pages are written."""

from __future__ import annotations

from pyxc.abi import domctl_paging
from pyxc.abi.domctl_paging import ShadowOp
from pyxc.abi.errno import XenErrno
from pyxc.sim.access import Refusal
from pyxc.sim.call import Call, handles
from pyxc.sim.domain import Domain

_PAGES_PER_MIB = 256


@handles(domctl_paging.SHADOW_OP_GET_ALLOCATION, domctl_paging.SHADOW_OP_SET_ALLOCATION)
def shadow_op(call: Call) -> None:
    domain = call.domain
    call.not_on_self()
    if domain.dying:
        return
    if domain.vcpu(0) is None or call["op"] not in (ShadowOp.GET_ALLOCATION, ShadowOp.SET_ALLOCATION):
        raise Refusal(XenErrno.EINVAL)
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
