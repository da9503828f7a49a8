# SPDX-License-Identifier: MIT
"""The virtual NUMA topology of a domain."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from typing import NamedTuple

from pyxc import arguments, errors
from pyxc.abi import domctl_vnuma, memory
from pyxc.abi.layout import Layout
from pyxc.domain.identity import Identity
from pyxc.host.host import Host

_NODES, _VCPUS, _RANGES = 32, 8192, 170
"""Xen's limit: the distances and the ranges have a page each."""
_U32_MAX = 2**32 - 1


class VnumaRange(NamedTuple):
    """Guest addresses in bytes, from `start` up to but not including `end`, and their node.

    Example:

    >>> pyxc.VnumaRange(0, 32 << 20, 0)
    VnumaRange(start=0, end=33554432, node=0)
    """

    start: int
    end: int
    node: int


class Vnuma(NamedTuple):
    """The virtual NUMA topology of a domain (domctl setvnumainfo, public/domctl.h).

    `distances[a][b]` is the relative distance between nodes a and b, 10 to itself; `vcpu_nodes[v]` the node
    of vcpu v, for each vcpu of the domain. `physical_nodes[n]` is the node of the host for node n: required
    for set_vnuma(), and None in results, because Xen does not report it. Threads: safe to share.

    Example:

    >>> ranges = (pyxc.VnumaRange(0, 32 << 20, 0), pyxc.VnumaRange(32 << 20, 64 << 20, 1))
    >>> web.set_vnuma(pyxc.Vnuma(((10, 20), (20, 10)), (0, 1), ranges, (0, 0)))
    >>> web.vnuma().vcpu_nodes
    (0, 1)
    """

    distances: tuple[tuple[int, ...], ...]
    vcpu_nodes: tuple[int, ...]
    ranges: tuple[VnumaRange, ...]
    physical_nodes: tuple[int, ...] | None = None


def read(domain: Identity) -> Vnuma | None:
    xen = domain.xen
    layout = _range_layout(xen)
    room = {"nr_vnodes": _NODES, "nr_vcpus": _VCPUS, "nr_vmemranges": _RANGES}
    buffers = {
        "vdistance.h": 4 * _NODES**2,
        "vcpu_to_vnode.h": 4 * _VCPUS,
        "vmemrange.h": layout.size * _RANGES,
    }
    try:
        reply = domain.call(memory.GET_VNUMAINFO, **room, **buffers)
    except errors.HypercallError as error:
        if error.errno == errno.EOPNOTSUPP:
            return None
        raise
    nodes, vcpus, ranges = (reply.reported(name, most) for name, most in room.items())
    distances = struct.unpack_from(f"{layout.order}{nodes * nodes}I", reply.buffers["vdistance.h"])
    found = [layout.unpack(reply.buffers["vmemrange.h"], index * layout.size) for index in range(ranges)]
    return Vnuma(
        tuple(distances[row * nodes : (row + 1) * nodes] for row in range(nodes)),
        struct.unpack_from(f"{layout.order}{vcpus}I", reply.buffers["vcpu_to_vnode.h"]),
        tuple(VnumaRange(fields["start"], fields["end"], fields["nid"]) for fields in found),
    )


def write(domain: Identity, topology: Vnuma) -> None:
    nodes, physical = checked(topology)
    info = domain.info()
    if len(topology.vcpu_nodes) != info.nr_vcpus:
        raise ValueError(f"vcpu_nodes has {len(topology.vcpu_nodes)} vcpus, the domain has {info.nr_vcpus}")
    layout = _range_layout(domain.xen)
    order = layout.order
    domain.change(
        domctl_vnuma.SETVNUMAINFO,
        nr_vnodes=nodes,
        nr_vcpus=len(topology.vcpu_nodes),
        nr_vmemranges=len(topology.ranges),
        vdistance=_words(order, (distance for row in topology.distances for distance in row)),
        vcpu_to_vnode=_words(order, topology.vcpu_nodes),
        vnode_to_pnode=_words(order, physical),
        vmemrange=b"".join(
            layout.pack({"start": place.start, "end": place.end, "nid": place.node})
            for place in topology.ranges
        )
        or 0,
    )


def _range_layout(xen: Host) -> Layout:
    """Unsupported if this Xen has none."""
    if not xen.caller.supports(domctl_vnuma.SETVNUMAINFO):
        hint = "domains have virtual NUMA nodes since Xen 4.5"
        raise errors.Unsupported(errno.ENOSYS, domctl_vnuma.SETVNUMAINFO.full_name, hint=hint)
    return memory.VMEMRANGE_STRUCT.at(xen.interface)


def checked(topology: Vnuma) -> tuple[int, tuple[int, ...]]:
    """The number of its nodes, and their physical nodes. ValueError if it is inconsistent."""
    nodes = arguments.natural("number of nodes", len(topology.distances), _NODES, 1)
    arguments.natural("number of ranges", len(topology.ranges), _RANGES)
    physical = topology.physical_nodes
    if physical is None or len(physical) != nodes:
        raise ValueError(f"physical_nodes must name a node of the host for each of the {nodes} nodes")
    for row in topology.distances:
        if len(row) != nodes:
            raise ValueError(f"distances must be {nodes} rows of {nodes}")
        for distance in row:
            arguments.natural("distance", distance, _U32_MAX)
    for node in (*topology.vcpu_nodes, *(place.node for place in topology.ranges)):
        arguments.natural("node", node, nodes - 1)
    for node in physical:
        arguments.natural("physical node", node, _U32_MAX)
    for place in topology.ranges:
        arguments.natural("end", place.end, 2**64 - 1, arguments.natural("start", place.start, 2**64 - 1))
    return nodes, physical


def _words(order: str, numbers: Iterable[int]) -> bytes:
    values = tuple(numbers)
    return struct.pack(f"{order}{len(values)}I", *values)
