# SPDX-License-Identifier: MIT
"""dom0_op: the host, its console, its clock and its scheduler."""

from __future__ import annotations

from pyxc.abi import dom0_ops
from pyxc.abi.dom0_ops import Direction, Scheduler
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.console import RING_SIZE
from pyxc.sim.ops.call import Call, handles
from pyxc.sim.ops.dom0_op import domain_of
from pyxc.sim.ops.sysctl import HW_CAP, XEN_FRAMES

_WEIGHT_PERIOD_NS = 100_000_000
_SHORTEST_PERIOD_NS, _LONGEST_PERIOD_NS = 10_000, 10_000_000_000
_SHORTEST_SLICE_NS = 5_000
_EXTRA_TIME = 1


@handles(dom0_ops.PHYSINFO)
def physinfo(call: Call) -> None:
    xen = call.xen
    layout = call.layout
    answer = {
        "threads_per_core": 1,
        "cores_per_socket": 1,
        "sockets_per_node": xen.pcpus,
        "nr_nodes": 1,
        "cpu_khz": xen.cpu_khz,
        "total_pages": xen.machine.frames - XEN_FRAMES,
        "free_pages": xen.machine.heap.free,
        "hw_cap": HW_CAP if xen.profile.arch == "x86_64" else bytes(layout.sizes["hw_cap"]),
    }
    call.answer(**answer)


@handles(dom0_ops.SCHED_ID)
def sched_id(call: Call) -> None:
    call.answer(sched_id=int(Scheduler.SEDF))


@handles(dom0_ops.READCONSOLE, dom0_ops.READCONSOLE_CLEAR)
def readconsole(call: Call) -> None:
    """Clearing forgets all of the ring, whether it was read or not."""
    console = call.xen.console
    data = console.read(call["count"]).data
    call.memory.write(call["buffer"], data)
    if call["clear"]:
        console.clear(console.read(RING_SIZE).next_index)
    call.answer(count=len(data))


@handles(dom0_ops.SETTIME)
def settime(call: Call) -> None:
    call.xen.wallclock_ns = call["secs"] * 10**9 + call["nsecs"] - call["system_time"]


@handles(dom0_ops.SCHEDCTL_GET, dom0_ops.SCHEDCTL_PUT)
def schedctl(call: Call) -> None:
    """Nothing of SEDF can be set for all domains."""
    _only_sedf(call)


@handles(dom0_ops.ADJUSTDOM_SEDF_GET, dom0_ops.ADJUSTDOM_SEDF_PUT)
def adjustdom(call: Call) -> None:
    """Invalid parameters are silently ignored."""
    _only_sedf(call)
    if call["direction"] not in (Direction.GET, Direction.PUT):
        raise Refusal(XenErrno.EINVAL)
    domain = domain_of(call)
    if call["direction"] == Direction.PUT:
        domain.sedf = _adjusted(call, domain.sedf)
    else:
        call.answer(**domain.sedf)


def _only_sedf(call: Call) -> None:
    if call["sched_id"] != Scheduler.SEDF:
        raise Refusal(XenErrno.EINVAL)


def _adjusted(call: Call, before: dict[str, int]) -> dict[str, int]:
    """What a domain's parameters become: driven by weight, or by slices of a period."""
    period, slice_, weight = call["u.sedf.period"], call["u.sedf.slice"], call["u.sedf.weight"]
    extra = call["u.sedf.extratime"] & _EXTRA_TIME
    after = {**before, "u.sedf.latency": call["u.sedf.latency"], "u.sedf.extratime": extra}
    if weight and extra and not period:
        return {**after, "u.sedf.period": _WEIGHT_PERIOD_NS, "u.sedf.slice": 0, "u.sedf.weight": 0}
    if weight:
        return {**after, "u.sedf.weight": weight}
    if _SHORTEST_PERIOD_NS <= period <= _LONGEST_PERIOD_NS and _SHORTEST_SLICE_NS <= slice_ <= period:
        return {**after, "u.sedf.period": period, "u.sedf.slice": slice_, "u.sedf.weight": 0}
    return before
