# SPDX-License-Identifier: MIT
"""domctl: which frames a domain has and what they are."""

from __future__ import annotations

from array import array

from pyxc.abi import domctl
from pyxc.abi.domctl import PageType
from pyxc.abi.errno import XenErrno
from pyxc.sim.access import Refusal
from pyxc.sim.call import Call, handles

_TYPES_AT_ONCE = 1024
_GETMEMLIST_MOST = 1 << 20


@handles(domctl.GETPAGEFRAMEINFO3)
def getpageframeinfo3(call: Call) -> None:
    """Types take the place of the frame numbers, in words as wide as dom0's kernel has."""
    if call["num"] > _TYPES_AT_ONCE:
        raise Refusal(XenErrno.E2BIG)
    words = call.xen.machine.words
    view = call.memory.view(call["array"], 8 * call["num"])
    view[:] = words.pack(_type(call, frame) for frame in words.unpack(view))


def _type(call: Call, frame: int) -> int:
    domain, machine = call.domain, call.xen.machine
    mfn = domain.machine_frame(frame)
    if not machine.owned_by(mfn, domain.domid) or mfn in machine.special:
        return PageType.XTAB
    return machine.types.get(mfn, PageType.NOTAB)


@handles(domctl.GETMEMLIST)
def getmemlist(call: Call) -> None:
    """The latest frame first; start_pfn means nothing on x86."""
    if call.domain.dying:
        raise Refusal(XenErrno.EINVAL)
    if call["max_pfns"] > _GETMEMLIST_MOST:
        raise Refusal(XenErrno.EOPNOTSUPP)
    machine = call.xen.machine
    frames = list(machine.frames_of(call.domain.domid))
    owned = [mfn for mfn in reversed(frames) if mfn not in machine.special]
    found = array("Q", owned[: call["max_pfns"]])
    call.memory.write(call["buffer"], machine.words.pack(found))
    call.answer(num_pfns=len(found))
