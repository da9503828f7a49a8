# SPDX-License-Identifier: MIT
"""domctl: a domain's view of time."""

from __future__ import annotations

from typing import Any

from pyxc.abi import domctl, domctl_tsc
from pyxc.abi.domctl_tsc import TscMode
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.ops.call import Call, handles

_NEWER = (4, 6)
"""Since when one cannot do this to oneself, and the answer comes in the structure itself."""


@handles(domctl.SETTIMEOFFSET)
def settimeoffset(call: Call) -> None:
    call.domain.time.offset_seconds = call["time_offset_seconds"]


@handles(domctl_tsc.GETTSCINFO)
def gettscinfo(call: Call) -> None:
    if call.xen.profile.since(*_NEWER):
        call.not_on_self()
        call.answer(**_info(call, call.domain))
    else:
        layout = call.xen.layout(domctl_tsc.GUEST_TSC_INFO_STRUCT)
        call.memory.write(call["out_info"], layout.pack(_info(call, call.domain)))


def _info(call: Call, domain: Domain) -> dict[str, Any]:
    """An emulated counter counts since it was set, a native one since the host started; in signed 64 bits."""
    time = domain.time
    told = {"tsc_mode": time.tsc_mode, "incarnation": time.incarnation}
    if time.tsc_mode == TscMode.NEVER_EMULATE:
        return {**told, "gtsc_khz": 0, "elapsed_nsec": 0}
    emulated = time.tsc_mode == TscMode.ALWAYS_EMULATE
    elapsed = (call.xen.clock_ns - (time.tsc_started_ns if emulated else 0)) % 2**64
    none_yet = elapsed >= 2**63
    return {**told, "gtsc_khz": time.tsc_khz or call.xen.cpu_khz, "elapsed_nsec": 0 if none_yet else elapsed}


@handles(domctl_tsc.SETTSCINFO)
def settscinfo(call: Call) -> None:
    """An unknown mode is an error since 4.12, and was kept before. dom0's own does not change."""
    domain, profile = call.domain, call.xen.profile
    prefix = "" if profile.since(*_NEWER) else "info."
    if profile.since(*_NEWER):
        call.not_on_self()
    if domain is call.xen.current.domain:
        return
    mode = call[f"{prefix}tsc_mode"]
    if mode > TscMode.NEVER_EMULATE and profile.since(4, 12):
        raise Refusal(XenErrno.EINVAL)
    domain.time.tsc_mode = mode
    if mode != TscMode.NEVER_EMULATE:
        domain.time.tsc_started_ns = call.xen.clock_ns - call[f"{prefix}elapsed_nsec"]
        domain.time.tsc_khz = call[f"{prefix}gtsc_khz"]
    domain.time.incarnation = (call[f"{prefix}incarnation"] + 1) % 2**32
