# SPDX-License-Identifier: MIT
"""dom0_op: which frames a domain has and what they are."""

from __future__ import annotations

from pyxc._core import PAGE_SIZE
from pyxc.abi import dom0_ops
from pyxc.abi.dom0_ops import ShadowOp
from pyxc.abi.domctl import PAGE_PINNED, PAGE_TYPE_MASK, PageType
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.ops.call import Call, handles
from pyxc.sim.ops.dom0_op import domain_of, other_domain_of

_TYPES_AT_ONCE = 1024
_STUB_SIZE = 32


@handles(dom0_ops.GETMEMLIST)
def getmemlist(call: Call) -> None:
    _list(call, first=0)


@handles(dom0_ops.GETMEMLIST2)
def getmemlist2(call: Call) -> None:
    """The same from any entry of the list on."""
    if not call.xen.profile.getmemlist2:
        raise Refusal(XenErrno.ENOSYS)
    _list(call, first=call["start_pfn"])


def _list(call: Call, first: int) -> None:
    """The answer to a fault (EFAULT) says, too, how many entries were written before it."""
    if call["domid"] not in call.xen.domains:
        raise Refusal(XenErrno.EINVAL)
    machine, place = call.xen.machine, call["buffer"]
    asked = min(call["max_pfns"], max(0, len(machine.memory_of(call["domid"])) - first))
    written = min(asked, call.memory.room(place) // 8)
    for part in machine.list_of(call["domid"], first, written):
        call.memory.write(place, part)
        place += len(part)
    call.answer(num_pfns=written)
    if written < asked:
        raise Refusal(XenErrno.EFAULT)


@handles(dom0_ops.GETPAGEFRAMEINFO, arch="x86_64")
def getpageframeinfo(call: Call) -> None:
    """Unpin a page. EINVAL for every kind of failure."""
    domid, mfn = call["domid"], call["mfn"]
    if domid not in call.xen.domains or not call.xen.machine.owned_by(mfn, domid):
        raise Refusal(XenErrno.EINVAL)
    call.answer(type=call.xen.machine.types.get(mfn, PageType.NOTAB) & ~PAGE_PINNED)


@handles(dom0_ops.GETPAGEFRAMEINFO2, arch="x86_64")
def getpageframeinfo2(call: Call) -> None:
    """Types are put on top of the frame numbers, whose bits 28 to 31 they spoil; a fault is EINVAL."""
    domain, words = domain_of(call), call.xen.machine.words
    if call["num"] > _TYPES_AT_ONCE:
        raise Refusal(XenErrno.E2BIG)
    try:
        view = call.memory.view(call["array"], 8 * call["num"])
    except Refusal:
        raise Refusal(XenErrno.EINVAL) from None
    view[:] = words.pack(mfn | _type(call, domain, mfn) for mfn in words.unpack(view))


def _type(call: Call, domain: Domain, mfn: int) -> int:
    machine = call.xen.machine
    if not machine.owned_by(mfn, domain.domid):
        return PageType.XTAB
    return machine.types.get(mfn, PageType.NOTAB) & PAGE_TYPE_MASK


@handles(dom0_ops.SHADOW_CONTROL, dom0_ops.SHADOW_CONTROL_PEEK, arch="x86_64")
def shadow_control(call: Call) -> None:
    """Log-dirty mode of a domain that writes nothing: its bitmap stays clean. There is no translation."""
    domain, op = other_domain_of(call), call["op"]
    if op in (ShadowOp.OFF, ShadowOp.ENABLE_TEST, ShadowOp.ENABLE_LOGDIRTY):
        domain.shadow_mode = op
    elif domain.shadow_mode == ShadowOp.OFF:
        raise Refusal(XenErrno.EINVAL)
    elif op in (ShadowOp.CLEAN, ShadowOp.PEEK):
        _give_dirty_bitmap(call, domain)
    elif op != ShadowOp.FLUSH:
        raise Refusal(XenErrno.EINVAL)


def _give_dirty_bitmap(call: Call, domain: Domain) -> None:
    """Whole u64s; a fault is EINVAL."""
    pages = min(call["pages"], -(-domain.tot_pages // 64) * 64)
    size, room = -(-pages // 64) * 8, call.memory.room(call["dirty_bitmap"])
    if domain.shadow_mode != ShadowOp.ENABLE_LOGDIRTY or not call["dirty_bitmap"] or room < size:
        raise Refusal(XenErrno.EINVAL)
    call.memory.write(call["dirty_bitmap"], bytes(size))
    call.answer(pages=pages)


@handles(dom0_ops.HYPERCALL_INIT, arch="x86_64")
def hypercall_init(call: Call) -> None:
    """Fill a page with the ways into Xen. EACCES: the frame is not the domain's, or is a page table."""
    domain, mfn = domain_of(call), call["mfn"]
    if not call.xen.machine.owned_by(mfn, domain.domid) or mfn in call.xen.machine.types:
        raise Refusal(XenErrno.EACCES)
    call.xen.machine.memory.write(mfn, 0, hypercall_page())


def hypercall_page() -> bytes:
    """What a kernel calls instead of Xen: a stub for each number."""
    return b"".join(_stub(number).ljust(_STUB_SIZE, b"\xcc") for number in range(PAGE_SIZE // _STUB_SIZE))


def _stub(number: int) -> bytes:
    """push %rcx; push %r11; mov $number,%eax; syscall; pop %r11; pop %rcx; ret."""
    return b"\x51\x41\x53\xb8" + number.to_bytes(4, "little") + b"\x0f\x05\x41\x5b\x59\xc3"
