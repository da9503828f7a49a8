# SPDX-License-Identifier: MIT
"""Resuming a suspended guest in place, and how the guest learns about it."""

from __future__ import annotations

import errno
import struct
from array import array
from collections.abc import Callable
from contextlib import suppress

from pyxc import answers, errors, undoing
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
        hint = "resuming is supported on x86 only"
        raise errors.Unsupported(errno.EOPNOTSUPP, domctl.RESUMEDOMAIN.full_name, domain.domid, hint=hint)
    back: list[Callable[[], object]] = []
    with undoing.on_failure(lambda: _take_back(domain, back), f"domain {domain.domid} is left changed"):
        if fast:
            if not info.is_hvm or HvmParams(domain).read(HvmParam.CALLBACK_IRQ):
                _return_cancelled(domain, back)
        elif fast is False and not info.is_hvm:
            _restore_start_info(domain, back)
            for vcpu in Vcpus(domain)[1:]:
                _reset(vcpu, back)
        domain.change(domctl.RESUMEDOMAIN)
    _tell_store(domain)


def _tell_store(domain: Identity) -> None:
    """xenstored reports its next end as it did this one."""
    with suppress(errors.StoreError):
        if domain.xen.store.is_introduced(domain.domid):
            domain.xen.store.resume(domain.domid)


def continue_here(domain: Identity, fast: bool | None) -> None:
    """Let a guest run again that was suspended to be saved; one that is not suspended is left as it is.

    May be called again after an error.
    """
    with suppress(errors.DomainNotFound, errors.DomainGone):
        if domain.info().shutdown_reason is ShutdownReason.SUSPEND:
            resume(domain, fast)
        else:
            _tell_store(domain)


def _take_back(domain: Identity, back: list[Callable[[], object]]) -> None:
    """Restore what the guest left, unless it already runs again: then everything was done."""
    try:
        if domain.info().shutdown_reason is None:
            return
    except (errors.DomainNotFound, errors.DomainGone):
        return
    while back:
        back[-1]()
        back.pop()


def _return_cancelled(domain: Identity, back: list[Callable[[], object]]) -> None:
    """Set the result of the guest's SCHEDOP_shutdown call."""
    first = Vcpu(domain, 0)
    context = first.context()
    register = "rax" if context.width == 64 else "eax"
    back.append(lambda: first.set_context(context))
    first.set_context(context.replace(**{register: _CANCELLED}))


def _reset(vcpu: Vcpu, back: list[Callable[[], object]]) -> None:
    try:
        context = vcpu.context()
    except errors.HypercallError as error:
        if error.errno != errno.ENODATA:
            raise
        return  # it was never initialised
    back.append(lambda: vcpu.set_context(context))
    vcpu.reset()


def _restore_start_info(domain: Identity, back: list[Callable[[], object]]) -> None:
    """A suspending guest replaces the frames in start_info by pfns, and passes its frame in rdx."""
    context = Vcpu(domain, 0).context()
    frame = context["rdx" if context.width == 64 else "edx"]
    answers.frame("the frame of start_info", frame)
    layout = _START_INFO[context.width].at(domain.xen.interface)
    mapping = Mapping(domain)
    entries = read_p2m(mapping).entries
    with mapping.map(frame, writable=True) as mapped, memoryview(mapped) as view:
        before = bytes(view[: layout.size])
        found = layout.unpack(view)
        frames = {name: _frame(domain, entries, name, found[name]) for name in _IN_START_INFO}
        back.append(lambda: mapping.write(frame, before))
        for name, value in frames.items():
            offset, code, _ = layout.places[name]
            struct.pack_into(f"{layout.order}{code}", view, offset, value)


def _frame(domain: Identity, entries: array[int], name: str, value: int) -> int:
    """The machine frame of a pfn; the value itself if it is a machine frame, written by a killed resume()."""
    if value < len(entries) and entries[value] != ABSENT:
        return entries[value]
    if value != ABSENT and value in entries:
        return value
    raise errors.DecodeError(f"{name} in domain {domain.domid}'s start_info is not a pfn: {value:#x}")
