# SPDX-License-Identifier: MIT
"""Letting a suspended guest go on where it is, and what it is told of that."""

from __future__ import annotations

import errno
import struct

from pyxc import answers, errors
from pyxc.abi import domctl
from pyxc.abi.arch import x86
from pyxc.abi.hvm import HvmParam
from pyxc.abi.sched import ShutdownReason
from pyxc.domain.hvm_params import HvmParams
from pyxc.domain.identity import Identity
from pyxc.domain.mapping import Mapping
from pyxc.domain.p2m import ABSENT, read_p2m
from pyxc.domain.vcpus import Vcpu, Vcpus

_CANCELLED = 1
_START_INFO = {64: x86.START_INFO_STRUCT, 32: x86.START_INFO_32_STRUCT}
_IN_START_INFO = ("store_mfn", "console.domU.mfn")


def resume(domain: Identity, fast: bool | None) -> None:
    info = domain.info()
    if fast is not None and info.shutdown_reason is not ShutdownReason.SUSPEND:
        raise ValueError(f"domain {domain.domid} is not suspended: {info.shutdown_reason!r}")
    if fast is not None and domain.xen.interface.arch != "x86_64":
        hint = "what a guest finds when it goes on is known on x86 only"
        raise errors.Unsupported(errno.EOPNOTSUPP, domctl.RESUMEDOMAIN.full_name, domain.domid, hint=hint)
    if fast:
        if not info.is_hvm or HvmParams(domain).read(HvmParam.CALLBACK_IRQ):
            _return_cancelled(domain)
    elif fast is False and not info.is_hvm:
        _restore_start_info(domain)
        for vcpu in Vcpus(domain)[1:]:
            vcpu.reset()
    domain.change(domctl.RESUMEDOMAIN)


def _return_cancelled(domain: Identity) -> None:
    """What the guest's call of SCHEDOP_shutdown will have returned."""
    first = Vcpu(domain, 0)
    context = first.context()
    register = "rax" if context.width == 64 else "eax"
    first.set_context(context.replace(**{register: _CANCELLED}))


def _restore_start_info(domain: Identity) -> None:
    """A guest that suspends makes pfns of the frames in start_info, and passes its own frame in rdx."""
    context = Vcpu(domain, 0).context()
    frame = context["rdx" if context.width == 64 else "edx"]
    answers.frame("the frame of start_info", frame)
    layout = _START_INFO[context.width].at(domain.xen.interface)
    mapping = Mapping(domain)
    entries = read_p2m(mapping).entries
    with mapping.map(frame, writable=True) as mapped, memoryview(mapped) as view:
        pfns = layout.unpack(view)
        for name in _IN_START_INFO:
            pfn = pfns[name]
            if pfn >= len(entries) or entries[pfn] == ABSENT:
                raise errors.DecodeError(f"{name} in start_info of domain {domain.domid} is no pfn: {pfn:#x}")
            offset, code, _ = layout.places[name]
            struct.pack_into(f"{layout.order}{code}", view, offset, entries[pfn])
