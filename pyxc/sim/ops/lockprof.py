# SPDX-License-Identifier: MIT
"""sysctl lockprof_op: the locks of two hypercalls, and one of each domain."""

from __future__ import annotations

from collections.abc import Iterator

from pyxc.abi import lockprof
from pyxc.abi.errno import XenErrno
from pyxc.abi.lockprof import LockType
from pyxc.abi.operation import DOMCTL, SYSCTL
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.host import Host
from pyxc.sim.ops.call import Call, handles

_HELD_NS = 1000
"""How long a simulated hypercall holds its lock."""


def _locks(xen: Host) -> Iterator[tuple[str, LockType, int, int]]:
    """Name, type, index and how often it was taken since the last reset."""
    for name, family in (("sysctl_lock", SYSCTL), ("domctl_lock", DOMCTL)):
        taken = xen.counters.hypercalls[family.hypercall] - xen.lock_profile.taken.get(name, 0)
        yield name, LockType.GLOBAL, -1, max(0, taken)
    for domid in xen.domains:
        yield "page_alloc_lock", LockType.PERDOM, domid, 0


def _copy(call: Call) -> None:
    layout = call.xen.layout(lockprof.LOCKPROF_DATA_STRUCT)
    rows = [
        layout.pack({"name": name.encode().ljust(40, b"\0"), "type": kind, "idx": index, "lock_cnt": taken,
                     "block_cnt": 0, "lock_time": taken * _HELD_NS, "block_time": 0})
        for name, kind, index, taken in _locks(call.xen)
    ]  # fmt: skip
    shown = rows[: call["max_elem"]]
    if shown:
        call.memory.write(call["data"], b"".join(shown))
    call.answer(nr_elem=len(rows), time=call.xen.clock_ns - call.xen.lock_profile.since_ns)


def _reset(xen: Host) -> None:
    profile = xen.lock_profile
    profile.since_ns = xen.clock_ns
    for name, _, _, taken in list(_locks(xen))[:2]:
        profile.taken[name] = profile.taken.get(name, 0) + taken


@handles(lockprof.LOCKPROF_OP_QUERY, lockprof.LOCKPROF_OP_RESET)
def lockprof_op(call: Call) -> None:
    if not call.xen.profile.xsm:
        raise Refusal(XenErrno.ENOSYS)
    if call["op"] == lockprof.LockprofOp.QUERY:
        _copy(call)
    elif call["op"] == lockprof.LockprofOp.RESET:
        _reset(call.xen)
    else:
        raise Refusal(XenErrno.EINVAL)
