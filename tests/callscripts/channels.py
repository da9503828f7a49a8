# SPDX-License-Identifier: MIT
"""Event channels."""

from __future__ import annotations

from callscripts import Script, Volatile
from pyxc.abi import domctl, event_channel

VOLATILE = Volatile(fields=("u", "port", "local_port"))
NOT_ON_DOM0 = (event_channel.RESET,)


def run(script: Script) -> None:
    pv = script.pv()
    reply = script.step("success", event_channel.ALLOC_UNBOUND, pv, remote_dom=0)
    port = reply.field("port") if reply else 1
    script.step("success", event_channel.STATUS, pv, port=port)
    script.step("missing port", event_channel.STATUS, pv, port=1 << 20)
    bound = script.step("success", event_channel.BIND_INTERDOMAIN, remote_dom=pv, remote_port=port)
    if bound is not None:
        script.step("bound", event_channel.STATUS, pv, port=port)
        script.step("success", event_channel.CLOSE, port=bound.field("local_port"))
        script.step("closed already", event_channel.CLOSE, port=bound.field("local_port"))
    script.step("success", event_channel.RESET, pv)
    script.step("after reset", event_channel.STATUS, pv, port=port)
    script.xen.call(domctl.UNPAUSEDOMAIN, pv)
    script.step("not paused", event_channel.RESET, pv)
    script.without_mistakes(event_channel.BIND_INTERDOMAIN, event_channel.CLOSE)
