# SPDX-License-Identifier: MIT
"""sched_op: shutting another domain down."""

from __future__ import annotations

from pyxc.abi import sched
from pyxc.abi.errno import XenErrno
from pyxc.sim.access import Refusal
from pyxc.sim.call import Call, handles


@handles(sched.REMOTE_SHUTDOWN)
def remote_shutdown(call: Call) -> None:
    """The first reason stays. dom0's own shutdown would end the host: the simulator refuses it."""
    domain = call.xen.find(call["domain_id"])
    if domain is call.xen.current.domain:
        raise Refusal(XenErrno.EPERM)
    if domain.shutdown_code is None:
        domain.shutdown_code = call["reason"] & 0xFF
        call.xen.domain_exception()
    call.xen.schedule()
