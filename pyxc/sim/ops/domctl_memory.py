# SPDX-License-Identifier: MIT
"""domctl: which frames a domain has and what they are."""

from __future__ import annotations

from array import array

from pyxc.abi import domctl
from pyxc.abi.domctl import PageType
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.ops.call import Call, handles
from pyxc.sim.ops.dom0_op_memory import hypercall_page

_TYPES_AT_ONCE = 1024
_GETMEMLIST_MOST = 1 << 20


@handles(domctl.GETPAGEFRAMEINFO3)
def getpageframeinfo3(call: Call) -> None:
    """Types take the place of the frame numbers, in words as wide as dom0's kernel has."""
    if call["num"] > _TYPES_AT_ONCE:
        raise Refusal(XenErrno.E2BIG)
    words = call.xen.machine.words
    view = call.memory.view(call["array"], 8 * call["num"])
    frames = words.unpack(view)
    lacks = call.domain.lacks(frames)
    view[:] = words.pack(PageType.XTAB if lacks else _type(call, frame) for frame in frames)


@handles(domctl.GETPAGEFRAMEINFO2)
def getpageframeinfo2(call: Call) -> None:
    """Types are put over 32-bit frame numbers; before 4.0 those were machine frames of every domain."""
    if call["num"] > _TYPES_AT_ONCE:
        raise Refusal(XenErrno.E2BIG)
    words = call.xen.machine.words
    view = call.memory.view(call["array"], 4 * call["num"])
    kind = _type if call.xen.profile.since(4, 0) else _type_of_machine_frame
    view[:] = words.pack32(frame | kind(call, frame) for frame in words.unpack32(view))


def _type(call: Call, frame: int) -> int:
    return _type_of_machine_frame(call, call.domain.machine_frame(frame))


def _type_of_machine_frame(call: Call, mfn: int) -> int:
    domain, machine = call.domain, call.xen.machine
    if not machine.owned_by(mfn, domain.domid) or mfn in machine.special:
        return PageType.XTAB
    return machine.types.get(mfn, PageType.NOTAB)


@handles(domctl.HYPERCALL_INIT)
def hypercall_init(call: Call) -> None:
    """EINVAL: the frame is not the domain's; EPERM: it is a page table."""
    call.not_on_self()
    mfn = call.domain.machine_frame(call["gmfn"])
    if not call.xen.machine.owned_by(mfn, call.domain.domid):
        raise Refusal(XenErrno.EINVAL)
    if mfn in call.xen.machine.types:
        raise Refusal(XenErrno.EPERM)
    call.xen.machine.memory.write(mfn, 0, hypercall_page())


@handles(domctl.GETMEMLIST)
def getmemlist(call: Call) -> None:
    """The latest frame first; start_pfn means nothing on x86."""
    if call.domain.dying and call.xen.profile.since(3, 4):
        raise Refusal(XenErrno.EINVAL)
    if call["max_pfns"] > _GETMEMLIST_MOST and call.xen.profile.since(4, 4):
        raise Refusal(XenErrno.EOPNOTSUPP)
    machine, found = call.xen.machine, array("Q")
    for run in reversed(machine.memory_of(call.domain.domid).runs):
        found.extend(run[::-1][: max(0, call["max_pfns"] - len(found))])
    call.memory.write(call["buffer"], machine.words.pack(found))
    call.answer(num_pfns=len(found))
