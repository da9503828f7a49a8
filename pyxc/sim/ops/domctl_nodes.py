# SPDX-License-Identifier: MIT
"""domctl: the NUMA nodes from which a domain gets memory, on a host that has one."""

from __future__ import annotations

from pyxc.abi import domctl
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.ops.bitmap import read_bitmap, write_bitmap
from pyxc.sim.ops.call import Call, handles

MOST_NODES = 64
"""Nodes that Xen was built for."""
_ONLINE = 1
_ALL = 2**MOST_NODES - 1


@handles(domctl.SETNODEAFFINITY)
def setnodeaffinity(call: Call) -> None:
    """All nodes mean: those of the cpus of its vcpus."""
    nodes = read_bitmap(call, "nodemap", MOST_NODES)
    if not nodes & _ONLINE:
        raise Refusal(XenErrno.EINVAL)
    call.domain.nodes = None if nodes == _ALL else nodes


@handles(domctl.GETNODEAFFINITY)
def getnodeaffinity(call: Call) -> None:
    nodes = _ONLINE if call.domain.nodes is None else call.domain.nodes
    write_bitmap(call, "nodemap", nodes, MOST_NODES)
