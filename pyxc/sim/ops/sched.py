# SPDX-License-Identifier: MIT
"""sched_op: shutting another domain down."""

from __future__ import annotations

from pyxc.abi import sched
from pyxc.abi.errno import XenErrno
from pyxc.sim.model import lifecycle
from pyxc.sim.model.access import Refusal
from pyxc.sim.ops.call import Call, handles


@handles(sched.REMOTE_SHUTDOWN)
def remote_shutdown(call: Call) -> None:
    """dom0's own shutdown would end the host: the simulator refuses it."""
    domain = call.xen.find(call["domain_id"])
    if domain is call.xen.current.domain:
        raise Refusal(XenErrno.EPERM)
    lifecycle.shut_down(call.xen, domain, call["reason"])
