# SPDX-License-Identifier: MIT
"""The time stamp counter of a domain."""

from __future__ import annotations

from typing import NamedTuple

from pyxc import answers, arguments
from pyxc.abi import domctl_tsc
from pyxc.abi.domctl_tsc import TscMode
from pyxc.domain.identity import Identity

_U32_MAX = 2**32 - 1


class TscInfo(NamedTuple):
    """The mode of a domain's time stamp counter (domctl gettscinfo, public/domctl.h).

    `khz` is its frequency, `elapsed_ns` its value as time; both are 0 with NEVER_EMULATE. `incarnation`
    counts how often it was set, as for each new and each restored domain. Threads: safe to share.

    Example:

    >>> web.tsc_info()
    TscInfo(mode=<TscMode.DEFAULT: 0>, khz=2400000, incarnation=1, elapsed_ns=60000100000)
    """

    mode: TscMode
    khz: int
    incarnation: int
    elapsed_ns: int


def read(domain: Identity) -> TscInfo:
    """Up to Xen 4.5 the hypervisor writes the result to a separate buffer."""
    xen = domain.xen
    if not xen.caller.has_field(domctl_tsc.GETTSCINFO, "out_info"):
        fields = domain.call(domctl_tsc.GETTSCINFO).fields()
    else:
        layout = domctl_tsc.GUEST_TSC_INFO_STRUCT.at(xen.interface)
        reply = domain.call(domctl_tsc.GETTSCINFO, out_info=layout.size)
        fields = layout.unpack(reply.buffers["out_info"])
    mode = answers.member(TscMode, fields["tsc_mode"])
    return TscInfo(mode, fields["gtsc_khz"], fields["incarnation"], fields["elapsed_nsec"])


def write(domain: Identity, mode: TscMode, khz: int, incarnation: int, elapsed_ns: int) -> None:
    xen = domain.xen
    fields = {
        "tsc_mode": int(TscMode(mode)),
        "gtsc_khz": arguments.natural("khz", khz, _U32_MAX),
        "incarnation": arguments.natural("incarnation", incarnation, _U32_MAX),
        "elapsed_nsec": arguments.natural("elapsed_ns", elapsed_ns, 2**64 - 1),
    }
    nested = "info." if xen.caller.has_field(domctl_tsc.SETTSCINFO, "out_info") else ""
    domain.change(domctl_tsc.SETTSCINFO, **{f"{nested}{name}": value for name, value in fields.items()})
