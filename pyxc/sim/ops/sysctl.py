# SPDX-License-Identifier: MIT
"""sysctl: the host, its console and the list of domains."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pyxc._core import PAGE_SIZE
from pyxc.abi import domctl, sysctl
from pyxc.abi.errno import XenErrno
from pyxc.sim.model import debug_keys
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.info import domain_info
from pyxc.sim.ops.call import Call, handles

_LAST_NODE = 63
_LOCAL_DISTANCE = 10
_PAGE_BITS = 12
_MOST_FRAME_BITS = 52
XEN_FRAMES = 5_000
"""Frames that Xen and the firmware keep: not part of total_pages."""
HW_CAP = (0x178BFBFF, 0xFFFA3203, 0x2C100800, 0x0C0D1107, 0x0000000F, 0x219C07A9, 0x0040061C, 0x00000100)


@handles(sysctl.PHYSINFO)
def physinfo(call: Call) -> None:
    """Before 4.1 the highest ids are those of cpus and nodes that are there."""
    xen, since_4_1 = call.xen, call.xen.profile.since(4, 1)
    told = {
        "threads_per_core": 1,
        "cores_per_socket": xen.pcpus,
        "sockets_per_node": 1,
        "nr_cpus": xen.pcpus,
        "max_cpu_id": (xen.possible_pcpus if since_4_1 else xen.pcpus) - 1,
        "nr_nodes": 1,
        "max_node_id": _LAST_NODE if since_4_1 else 0,
        "cpu_khz": xen.cpu_khz,
        "capabilities": int(xen.profile.capabilities),
        "total_pages": xen.machine.frames - XEN_FRAMES,
        "free_pages": xen.machine.heap.free,
        "scrub_pages": 0,
        "outstanding_pages": xen.claimed_pages,
        "max_mfn": xen.machine.frames - 1,
        "hw_cap": HW_CAP,
    }
    if call.fields.get("cpu_to_node"):
        _write_cpus(call, "cpu_to_node", min(call["max_cpu_id"] + 1, xen.pcpus), lambda _: 0)
    call.answer(**{name: value for name, value in told.items() if name in call.layout.index})


def _write_cpus(call: Call, field: str, count: int, place: Callable[[int], int]) -> None:
    """An array of u32, one for each of the first cpus."""
    call.memory.write(call[field], call.xen.machine.words.pack32(map(place, range(count))))


@handles(sysctl.SCHED_ID)
def sched_id(call: Call) -> None:
    call.answer(sched_id=int(call.xen.pools[0].scheduler))


@handles(sysctl.GETDOMAININFOLIST)
def getdomaininfolist(call: Call) -> None:
    layout = call.xen.layout(domctl.GETDOMAININFO_STRUCT)
    following = [domain for domain in call.xen.sorted_domains() if domain.domid >= call["first_domain"]]
    records, record = list[bytes](), dict[str, Any]()
    for domain in following[: call["max_domains"]]:
        left = {"max_vcpu_id": record.get("max_vcpu_id", 0)}
        record = left | domain_info(call.xen, domain)
        records.append(layout.pack(record))
    call.memory.write(call["buffer"], b"".join(records))
    call.answer(num_domains=len(records))


@handles(sysctl.READCONSOLE, sysctl.READCONSOLE_CLEAR)
def readconsole(call: Call) -> None:
    """Before 3.2 there is no index, before 4.0 it has no effect."""
    console = call.xen.console
    on = bool(call.fields.get("incremental")) and call.xen.profile.since(4, 0)
    piece = console.read(call["count"], on, call.fields.get("index", 0))
    call.memory.write(call["buffer"], piece.data)
    if call["clear"]:
        console.clear(piece.next_index)
    index = {"index": piece.next_index} if "index" in call.layout.index else {}
    call.answer(count=len(piece.data), **index)


@handles(sysctl.DEBUG_KEYS)
def press_debug_keys(call: Call) -> None:
    """Those that can be read are pressed; EFAULT at the first that cannot."""
    count = min(call["nr_keys"], call.memory.room(call["keys"]))
    debug_keys.press(call.xen, call.memory.read(call["keys"], count))
    if count < call["nr_keys"]:
        raise Refusal(XenErrno.EFAULT)


@handles(sysctl.GETCPUINFO)
def getcpuinfo(call: Call) -> None:
    layout = call.xen.layout(sysctl.CPUINFO_STRUCT)
    count = min(call["max_cpus"], call.xen.possible_pcpus)
    idle = [layout.pack({"idletime": call.xen.idle_ns(pcpu)}) for pcpu in range(count)]
    call.memory.write(call["info"], b"".join(idle))
    call.answer(nr_cpus=count)


@handles(sysctl.AVAILHEAP)
def availheap(call: Call) -> None:
    """Of frames with addresses of so many bits; 0 is no limit. The one node is 0."""
    heap = call.xen.machine.heap
    least, most = call["min_bitwidth"], call["max_bitwidth"]
    start = _frames_of(least - 1) if least else 0
    stop = _frames_of(most) if most else call.xen.machine.frames
    free = sum(len(range(max(run.start, start), min(run.stop, stop))) for run in heap.runs)
    call.answer(avail_bytes=free * PAGE_SIZE if call["node"] in (-1, 0) else 0)


def _frames_of(bits: int) -> int:
    """How many frames have an address of so many bits; of more than a machine can have it does not matter."""
    return 1 << min(max(0, bits - _PAGE_BITS), _MOST_FRAME_BITS)


@handles(sysctl.CPUTOPOINFO)
def cputopoinfo(call: Call) -> None:
    """Without a buffer only the number of cpus."""
    layout = call.xen.layout(sysctl.CPUTOPO_STRUCT)
    count = call.xen.pcpus
    if call["cputopo"]:
        count = min(count, call["num_cpus"])
        rows = [layout.pack({"core": pcpu, "socket": 0, "node": 0}) for pcpu in range(count)]
        call.memory.write(call["cputopo"], b"".join(rows))
    call.answer(num_cpus=count)


@handles(sysctl.TOPOLOGYINFO)
def topologyinfo(call: Call) -> None:
    count = min(call["max_cpu_index"] + 1, call.xen.pcpus)
    places: dict[str, Callable[[int], int]] = {
        "cpu_to_core": lambda pcpu: pcpu,
        "cpu_to_socket": lambda _: 0,
        "cpu_to_node": lambda _: 0,
    }
    for field, place in places.items():
        if call[field]:
            _write_cpus(call, field, count, place)
    call.answer(max_cpu_index=call.xen.pcpus - 1)


@handles(sysctl.NUMAINFO)
def numainfo(call: Call) -> None:
    """One node. Without buffers only how many there are."""
    if "max_node_index" in call.layout.index:
        _former_numainfo(call)
        return
    machine, count = call.xen.machine, 1
    if call["meminfo"] or call["distance"]:
        count = min(count, call["num_nodes"])
        layout = call.xen.layout(sysctl.MEMINFO_STRUCT)
        node = {"memsize": machine.frames * PAGE_SIZE, "memfree": machine.heap.free * PAGE_SIZE}
        if call["meminfo"]:
            call.memory.write(call["meminfo"], layout.pack(node) * count)
        if call["distance"]:
            distance = struct.pack(layout.order + "I", _LOCAL_DISTANCE)
            call.memory.write(call["distance"], distance * count)
    call.answer(num_nodes=count)


def _former_numainfo(call: Call) -> None:
    """Up to 4.5 each number had its own array."""
    machine = call.xen.machine
    columns = {
        "node_to_memsize": machine.words.pack([machine.frames * PAGE_SIZE]),
        "node_to_memfree": machine.words.pack([machine.heap.free * PAGE_SIZE]),
        "node_to_node_distance": machine.words.pack32([_LOCAL_DISTANCE]),
    }
    for field, data in columns.items():
        if call[field]:
            call.memory.write(call[field], data)
    call.answer(max_node_index=0)
