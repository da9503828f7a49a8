# SPDX-License-Identifier: MIT
"""domctl and memory_op: the NUMA nodes that a domain sees."""

from __future__ import annotations

import struct

from pyxc.abi import domctl_vnuma, memory
from pyxc.abi.errno import XenErrno
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.domain import Domain
from pyxc.sim.ops.call import Call, handles

_PAGE_WORDS, _PAGE_RANGES = 1024, 170
_MOST_PHYSICAL = 64
_COUNTS = ("nr_vnodes", "nr_vcpus", "nr_vmemranges")


def _words(call: Call, address: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"{call.layout.order}{count}I", call.memory.read(address, 4 * count))


@handles(domctl_vnuma.SETVNUMAINFO)
def setvnumainfo(call: Call) -> None:
    domain, nodes, ranges = call.domain, call["nr_vnodes"], call["nr_vmemranges"]
    if call["nr_vcpus"] != len(domain.vcpus):
        raise Refusal(XenErrno.EINVAL)
    if nodes == 0 or nodes > _PAGE_WORDS // nodes or ranges > _PAGE_RANGES:
        raise Refusal(XenErrno.EINVAL)
    layout = call.xen.layout(memory.VMEMRANGE_STRUCT)
    distances = call.memory.read(call["vdistance"], 4 * nodes * nodes)
    places = call.memory.read(call["vmemrange"], layout.size * ranges)
    vcpu_nodes = _words(call, call["vcpu_to_vnode"], len(domain.vcpus))
    if any(node >= nodes for node in vcpu_nodes):
        raise Refusal(XenErrno.E2BIG)
    if any(node >= _MOST_PHYSICAL for node in _words(call, call["vnode_to_pnode"], nodes)):
        raise Refusal(XenErrno.E2BIG)
    if any(layout.unpack(places, index * layout.size)["flags"] for index in range(ranges)):
        raise Refusal(XenErrno.EINVAL)
    packed = struct.pack(f"{call.layout.order}{len(vcpu_nodes)}I", *vcpu_nodes)
    domain.vnuma = (nodes, ranges, distances, packed, places)


@handles(memory.GET_VNUMAINFO)
def get_vnumainfo(call: Call) -> None:
    domain: Domain = call.xen.find_any(call["domid"])
    if domain.vnuma is None:
        raise Refusal(XenErrno.EOPNOTSUPP)
    nodes, ranges, distances, vcpu_nodes, places = domain.vnuma
    needed = dict(zip(_COUNTS, (nodes, len(domain.vcpus), ranges)))
    if any(call[name] < count for name, count in needed.items()):
        call.answer(**needed)
        raise Refusal(XenErrno.ENOBUFS)
    call.memory.write(call["vmemrange.h"], places)
    call.memory.write(call["vdistance.h"], distances)
    call.memory.write(call["vcpu_to_vnode.h"], vcpu_nodes)
    call.answer(**needed)
