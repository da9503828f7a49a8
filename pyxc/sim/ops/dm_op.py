# SPDX-License-Identifier: MIT
"""dm_op: what a device model asks for one translated domain."""

from __future__ import annotations

from pyxc.abi import dm_op
from pyxc.sim.model import lifecycle
from pyxc.sim.ops.call import Call, handles


@handles(dm_op.REMOTE_SHUTDOWN)
def remote_shutdown(call: Call) -> None:
    lifecycle.shut_down(call.xen, call.domain, call["reason"])


@handles(dm_op.NR_VCPUS)
def nr_vcpus(call: Call) -> None:
    call.answer(vcpus=len(call.domain.vcpus))
