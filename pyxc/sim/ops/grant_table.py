# SPDX-License-Identifier: MIT
"""grant_table_op."""

from __future__ import annotations

from pyxc.abi import grant_table
from pyxc.abi.errno import XenErrno
from pyxc.abi.grant_table import Status
from pyxc.sim.model.access import Refusal
from pyxc.sim.ops.call import Call, handles


@handles(grant_table.QUERY_SIZE)
def query_size(call: Call) -> None:
    try:
        domain = call.xen.find_any(call["dom"])
        call.xen.demand(domain.ssidref, "grant", "query")
    except Refusal as refusal:
        denied = refusal.errno == XenErrno.EACCES
        call.answer(status=int(Status.PERMISSION_DENIED if denied else Status.BAD_DOMAIN))
    else:
        call.answer(
            nr_frames=len(domain.grant_frames), max_nr_frames=domain.max_grant_frames, status=int(Status.OKAY)
        )


@handles(grant_table.GET_VERSION)
def get_version(call: Call) -> None:
    domain = call.xen.find_any(call["dom"])
    call.xen.demand(domain.ssidref, "grant", "query")
    call.answer(version=domain.grant_version)
