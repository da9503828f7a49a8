# SPDX-License-Identifier: MIT
"""The topology of cpus and memory, and their unused parts."""

from __future__ import annotations

from typing import NamedTuple

from pyxc import answers, arguments
from pyxc.abi import sysctl
from pyxc.host.host import Host

_UNKNOWN_32 = 2**32 - 1
_UNKNOWN_64 = 2**64 - 1
_ANY_NODE = -1
_MOST_NODES = 64
_ADDRESS_BITS = 64


class CpuTopology(NamedTuple):
    """The core, socket and node of a physical cpu; None if not reported, and for an offline cpu.

    Example:

    >>> xen.topology()[1]
    CpuTopology(cpu=1, core=1, socket=0, node=0)
    """

    cpu: int
    core: int | None
    socket: int | None
    node: int | None


class NumaNode(NamedTuple):
    """A NUMA node (sysctl numainfo). `distances[n]` is the relative distance to node n, 10 to itself.

    None if not reported.

    Example:

    >>> xen.numa()
    [NumaNode(node=0, size_bytes=2147352576, free_bytes=645726208, distances=(10,))]
    """

    node: int
    size_bytes: int | None
    free_bytes: int | None
    distances: tuple[int | None, ...]


def cpus(xen: Host) -> list[CpuTopology]:
    """Core, socket and node of each physical cpu."""
    if xen.caller.supports(sysctl.CPUTOPOINFO):
        return _cputopoinfo(xen)
    if xen.caller.supports(sysctl.TOPOLOGYINFO):
        return _topologyinfo(xen)
    if xen.caller.has_field(sysctl.PHYSINFO, "cpu_to_node"):
        return _cpu_to_node(xen)
    return [CpuTopology(cpu, None, None, None) for cpu in range(xen.nr_cpus)]


def _cputopoinfo(xen: Host) -> list[CpuTopology]:
    layout = sysctl.CPUTOPO_STRUCT.at(xen.interface)
    count = xen.nr_cpus
    reply = xen.call(sysctl.CPUTOPOINFO, num_cpus=count, cputopo=count * layout.size)
    rows = list(layout.codec.iter_unpack(reply.buffers["cputopo"]))[: reply.field("num_cpus")]
    return [CpuTopology(cpu, *(_known(value, _UNKNOWN_32) for value in row)) for cpu, row in enumerate(rows)]


def _topologyinfo(xen: Host) -> list[CpuTopology]:
    """Xen 4.1 to 4.5: an array of u32 for each."""
    names = ("cpu_to_core", "cpu_to_socket", "cpu_to_node")
    last = xen.nr_cpus - 1
    reply = xen.call(sysctl.TOPOLOGYINFO, max_cpu_index=last, **dict.fromkeys(names, 4 * xen.nr_cpus))
    count = min(last, reply.field("max_cpu_index")) + 1
    columns = [xen.words32(reply.buffers[name])[:count] for name in names]
    return [
        CpuTopology(cpu, *(_known(value, _UNKNOWN_32) for value in row))
        for cpu, row in enumerate(zip(*columns))
    ]


def _cpu_to_node(xen: Host) -> list[CpuTopology]:
    """Xen 3.2 to 4.0: physinfo reports the nodes, and nothing reports cores and sockets."""
    last = xen.nr_cpus - 1
    reply = xen.call(sysctl.PHYSINFO, max_cpu_id=last, cpu_to_node=4 * xen.nr_cpus)
    nodes = xen.words32(reply.buffers["cpu_to_node"])[: min(last, reply.field("max_cpu_id")) + 1]
    return [CpuTopology(cpu, None, None, _known(node, _UNKNOWN_32)) for cpu, node in enumerate(nodes)]


def idle_ns(xen: Host) -> list[int]:
    """Nanoseconds that each physical cpu was idle."""
    count = xen.nr_cpus
    reply = xen.call(sysctl.GETCPUINFO, max_cpus=count, info=8 * count)
    return xen.words(reply.buffers["info"]).tolist()[: reply.field("nr_cpus")]


def available_bytes(xen: Host, node: int | None, least_bits: int, most_bits: int) -> int:
    """Bytes of free memory, of all nodes or one, with addresses of so many bits (0: any)."""
    fields = {
        "node": _ANY_NODE if node is None else arguments.natural("node", node, _MOST_NODES - 1),
        "min_bitwidth": arguments.natural("least_bits", least_bits, _ADDRESS_BITS),
        "max_bitwidth": arguments.natural("most_bits", most_bits, _ADDRESS_BITS),
    }
    return int(xen.call(sysctl.AVAILHEAP, **fields).field("avail_bytes"))


def node_places(xen: Host) -> int:
    """The number of nodes for which this Xen was built."""
    return _node_count(xen.physinfo().max_node_id) or _MOST_NODES


def _node_count(max_node_id: int | None) -> int | None:
    """The number of nodes up to the highest."""
    if max_node_id is None:
        return None
    return answers.number("number of nodes", max_node_id + 1, answers.MOST_NODES, 1)


def nodes(xen: Host) -> list[NumaNode]:
    """Memory of each node and distances between them."""
    if not xen.caller.supports(sysctl.NUMAINFO):
        return _free_memory(xen)
    count = _node_count(xen.physinfo().max_node_id)
    assert count is not None, "every Xen with numainfo reports how many nodes there can be"
    one_list = xen.caller.has_field(sysctl.NUMAINFO, "meminfo")
    return _meminfo(xen, count) if one_list else _node_to_memory(xen, count)


def _meminfo(xen: Host, count: int) -> list[NumaNode]:
    layout = sysctl.MEMINFO_STRUCT.at(xen.interface)
    reply = xen.call(
        sysctl.NUMAINFO, num_nodes=count, meminfo=count * layout.size, distance=4 * count * count
    )
    memory = list(layout.codec.iter_unpack(reply.buffers["meminfo"]))[: reply.field("num_nodes")]
    return _nodes(xen, memory, reply.buffers["distance"])


def _node_to_memory(xen: Host, count: int) -> list[NumaNode]:
    """Xen 4.1 to 4.5: arrays of u64."""
    reply = xen.call(
        sysctl.NUMAINFO,
        max_node_index=count - 1,
        node_to_memsize=8 * count,
        node_to_memfree=8 * count,
        node_to_node_distance=4 * count * count,
    )
    sizes, free = (xen.words(reply.buffers[name]) for name in ("node_to_memsize", "node_to_memfree"))
    memory = list(zip(sizes, free))[: reply.field("max_node_index") + 1]
    return _nodes(xen, memory, reply.buffers["node_to_node_distance"])


def _nodes(xen: Host, memory: list[tuple[int, int]], matrix: bytes) -> list[NumaNode]:
    """Nodes of (size, free); the matrix of distances has as many rows and columns."""
    distances, count = xen.words32(matrix), len(memory)
    return [
        NumaNode(
            node,
            _known(size, _UNKNOWN_64),
            _known(free, _UNKNOWN_64),
            tuple(_known(far, _UNKNOWN_32) for far in distances[node * count : (node + 1) * count]),
        )
        for node, (size, free) in enumerate(memory)
    ]


def _free_memory(xen: Host) -> list[NumaNode]:
    """Xen 3.2 to 4.0: only the free memory. Unsupported before."""
    info = xen.physinfo()
    count = _node_count(info.max_node_id) or answers.number(
        "nr_nodes", info.nr_nodes or 0, answers.MOST_NODES
    )
    far = (None,) * count
    return [
        NumaNode(node, None, xen.call(sysctl.AVAILHEAP, node=node).field("avail_bytes"), far)
        for node in range(count)
    ]


def _known(value: int, unknown: int) -> int | None:
    return None if value == unknown else value
