# SPDX-License-Identifier: MIT
"""One script of calls that runs unchanged on a real hypervisor, on a simulated one, and on a recording.

run(xen) issues every operation that the library uses, with success and with each mistake that can be made in
it, and answers what came of it: a dictionary of "operation/case" to outcome. VOLATILE names what may differ
between hosts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from pyxc import Domain, VcpuContext, Xen, errors
from pyxc.abi import domctl, event_channel, grant_table, hvm, memory, sched, sysctl, version
from pyxc.abi.domctl import AffinityFlag
from pyxc.abi.hvm import HvmParam
from pyxc.abi.operation import DOMCTL, SYSCTL, Operation
from pyxc.caller import Address, Reply

PV_UUID = "11111111-2222-4333-8444-555555555501"
PVH_UUID = "11111111-2222-4333-8444-555555555502"
NEW_UUID = "11111111-2222-4333-8444-555555555503"
ABSENT_DOMID = 0x7000
ABSENT_VCPU = 4096
WRONG_VERSION = 0x7777
NOWHERE = Address(0x10)
BOTH = int(AffinityFlag.HARD | AffinityFlag.SOFT)
MAPS = {
    "cpumap_hard.bitmap": 8,
    "cpumap_hard.nr_bits": 64,
    "cpumap_soft.bitmap": 8,
    "cpumap_soft.nr_bits": 64,
}
ALL_CPUS = {**MAPS, "cpumap_hard.bitmap": b"\x03" + bytes(7), "cpumap_soft.bitmap": b"\x03" + bytes(7)}
NO_CPUS = {**MAPS, "cpumap_hard.bitmap": bytes(8), "cpumap_soft.bitmap": bytes(8)}

VOLATILE = frozenset(
    "cpu_time cpu shared_info_frame total_pages free_pages scrub_pages outstanding_pages max_mfn cpu_khz "
    "hw_cap index count avail_bytes memsize memfree idletime extent_start compile_date compiler compile_by "
    "compile_domain changeset commandline extraversion buf len gpaddr_bits max_node_id nr_nodes distance "
    "num_nodes info meminfo buffer cputopo array u port local_port ctxt".split()
)
"""Fields that tell of time, of addresses and frames, or of one host and build."""
VOLATILE_OF_DOM0 = frozenset(("flags", "tot_pages", "max_pages", "running", "blocked"))
"""Fields that tell how large dom0 is and what it does; of domains that the script makes they are compared."""


def run(xen: Xen) -> dict[str, dict[str, Any]]:
    """The whole script. dom0's vcpu 0 makes the calls, so that "own vcpu" is always the same."""
    os.sched_setaffinity(0, {0})
    script = Script(xen)
    about_the_build(script)
    about_the_host(script)
    with_domains(script)
    script.try_mistakes()
    script.destroy_domains()
    return script.outcomes


class Script:
    """Runs steps and keeps what came of them."""

    def __init__(self, xen: Xen) -> None:
        self.xen = xen
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.samples: dict[Operation, tuple[int | None, dict[str, Any]]] = {}
        self.domains: list[Domain] = []

    def step(
        self, case: str, operation: Operation, domid: int | None = None, /, **fields: Any
    ) -> Reply | None:
        """One call; a success is kept as the sample from which mistakes are made."""
        if not self.xen.caller.supports(operation):
            return None
        reply: Reply | None = None
        try:
            reply = self.xen.call(operation, domid, **fields)
            result = None if _of_the_host(operation, domid) else reply.result
            outcome = {"result": result, **visible(reply, domid)}
        except errors.HypercallError as error:
            outcome = {"errno": error.errno, "kind": type(error).__name__}
        self.outcomes[f"{operation.full_name}/{case}"] = outcome
        if reply is not None:
            self.samples.setdefault(operation, (domid, fields))
        return reply

    def try_mistakes(self) -> None:
        """Every operation that went well, once more with each mistake that it offers."""
        for operation, (domid, fields) in self.samples.items():
            names = operation.at(self.xen.interface).index
            if domid is not None:
                self.step("unknown domid", operation, ABSENT_DOMID, **fields)
                if operation not in FATAL_TO_DOM0:
                    self.step("dom0 itself", operation, 0, **fields)
            if operation.family in (DOMCTL, SYSCTL):
                self.step(
                    "wrong interface version", operation, domid, **fields, interface_version=WRONG_VERSION
                )
            if "vcpu" in names:
                self.step("missing vcpu", operation, domid, **{**fields, "vcpu": ABSENT_VCPU})
                self.step("own vcpu", operation, 0, **{**fields, "vcpu": 0})
            for name in sorted(operation.at(self.xen.interface).handles):
                if fields.get(name):
                    self.step(f"bad {name}", operation, domid, **{**fields, name: NOWHERE})
            self._bad_structure(operation)

    def _bad_structure(self, operation: Operation) -> None:
        """The structure itself where no memory is."""
        if not operation.at(self.xen.interface).size:
            return
        before = (operation.command,) if operation.family.command_argument else ()
        result = self.xen.link.hypercall(
            operation.family.hypercall, *before, NOWHERE, *operation.family.extra
        )
        self.outcomes[f"{operation.full_name}/bad handle"] = {"result": result}

    def destroy_domains(self) -> None:
        for domain in self.domains:
            self.step("success", domctl.DESTROYDOMAIN, domain.domid)
        self.step("unknown domid", domctl.DESTROYDOMAIN, ABSENT_DOMID)
        self.step("dom0 itself", domctl.DESTROYDOMAIN, 0)


RESULTS_OF_THE_HOST = (memory.MAXIMUM_RAM_PAGE, version.BUILD_ID, version.COMMANDLINE2, version.EXTRAVERSION2)
RESULTS_OF_DOM0 = (memory.CURRENT_RESERVATION, memory.MAXIMUM_GPFN)
FATAL_TO_DOM0 = (sched.REMOTE_SHUTDOWN, memory.DECREASE_RESERVATION, domctl.MAX_MEM, domctl.SETDOMAINHANDLE)


def _of_the_host(operation: Operation, domid: int | None) -> bool:
    """Whether a hypercall's result tells of this one host: its size, its build, the size of its dom0."""
    return operation in RESULTS_OF_THE_HOST or (operation in RESULTS_OF_DOM0 and domid == 0)


def visible(reply: Reply, domid: int | None) -> dict[str, Any]:
    """What a reply says, as JSON can hold it: fields that are not volatile, addresses never."""
    hidden = VOLATILE | VOLATILE_OF_DOM0 if domid == 0 else VOLATILE
    fields = reply.fields()
    shown = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in fields.items()
        if name not in hidden and name not in reply.layout.handles
    }
    kept = {name: data for name, data in reply.buffers.items() if name not in hidden}
    buffers = {name: data.rstrip(b"\0").hex() for name, data in kept.items()}
    return {"fields": shown, "buffers": buffers}


def about_the_build(script: Script) -> None:
    for operation in (
        version.VERSION, version.EXTRAVERSION, version.COMPILE_INFO, version.CAPABILITIES, version.CHANGESET,
        version.PLATFORM_PARAMETERS, version.PAGESIZE, version.GUEST_HANDLE, version.COMMANDLINE,
    ):  # fmt: skip
        script.step("success", operation)
    script.step("success", version.GET_FEATURES, submap_idx=0)
    script.step("missing submap", version.GET_FEATURES, submap_idx=9)
    for operation in (
        version.BUILD_ID, version.EXTRAVERSION2, version.CAPABILITIES2, version.CHANGESET2,
        version.COMMANDLINE2,
    ):  # fmt: skip
        script.step("success", operation, len=4092)
        script.step("short buffer", operation, len=1)


def about_the_host(script: Script) -> None:
    script.step("success", sysctl.PHYSINFO)
    script.step("success", sysctl.SCHED_ID)
    script.step("success", sysctl.GETDOMAININFOLIST, first_domain=0, max_domains=1, buffer=256)
    script.step("no room", sysctl.GETDOMAININFOLIST, first_domain=0, max_domains=0, buffer=256)
    script.step("oversized list", sysctl.GETDOMAININFOLIST, max_domains=2**31, buffer=1 << 16)
    script.step("beyond the last", sysctl.GETDOMAININFOLIST, first_domain=0x7FEF, max_domains=1, buffer=256)
    script.step("success", sysctl.CPUTOPOINFO, num_cpus=2, cputopo=24)
    script.step("size", sysctl.CPUTOPOINFO, num_cpus=0)
    script.step("oversized list", sysctl.CPUTOPOINFO, num_cpus=4096, cputopo=12 * 4096)
    script.step("success", sysctl.NUMAINFO, num_nodes=1, meminfo=16, distance=4)
    script.step("size", sysctl.NUMAINFO, num_nodes=0)
    script.step("success", sysctl.GETCPUINFO, max_cpus=2, info=16)
    script.step("oversized list", sysctl.GETCPUINFO, max_cpus=4096, info=8 * 4096)
    script.step("success", sysctl.AVAILHEAP, min_bitwidth=0, max_bitwidth=0, node=-1)
    script.step("success", sysctl.READCONSOLE, buffer=1024, count=1024)
    script.step("incremental", sysctl.READCONSOLE, buffer=1024, count=1024, incremental=1, index=0)
    script.step("success", sysctl.DEBUG_KEYS, keys=b"h", nr_keys=1)
    script.step("success", sysctl.READCONSOLE_CLEAR, buffer=1024, count=1024)
    script.step(
        "success", sysctl.CPUPOOL_OP_INFO, **{"cpupool_id": 0, "cpumap.bitmap": 8, "cpumap.nr_bits": 64}
    )
    script.step(
        "missing pool", sysctl.CPUPOOL_OP_INFO, **{"cpupool_id": 7, "cpumap.bitmap": 8, "cpumap.nr_bits": 64}
    )


def with_domains(script: Script) -> None:
    xen = script.xen
    pv = xen.domains.create(uuid=PV_UUID, max_vcpus=2)
    pvh = xen.domains.create(uuid=PVH_UUID, hvm=True, hap=True)
    script.domains += [pv, pvh]
    creation(script, pv.domid)
    attributes(script, pv.domid, pvh.domid)
    vcpus(script, pv.domid)
    vcpus_at_once(script, pv.domid)
    memory_of_pv(script, pv.domid)
    memory_of_pvh(script, pvh.domid)
    registers_of_pvh(script, pvh.domid)
    channels_and_grants(script, pv.domid)
    states(script, pv.domid, pvh.domid)


def creation(script: Script, taken: int) -> None:
    layout = domctl.CREATEDOMAIN.at(script.xen.interface)
    usual = {"handle": bytes(range(16)), "max_vcpus": 1, "max_evtchn_port": 1023, "grant_opts": 1,
             "max_grant_frames": 4, "max_maptrack_frames": 4}  # fmt: skip
    fields = {name: value for name, value in usual.items() if name in layout.index}
    script.step("occupied domid", domctl.CREATEDOMAIN, taken, **fields)
    mistakes: dict[str, dict[str, int]] = {
        "no vcpus": {"max_vcpus": 0},
        "too many vcpus": {"max_vcpus": 1 << 20},
        "unknown flags": {"flags": 1 << 31},
        "hap without hvm": {"flags": 2},
        "no grant version": {"grant_opts": 0},
    }
    for case, mistake in mistakes.items():
        if mistake.keys() <= layout.index.keys():
            script.step(case, domctl.CREATEDOMAIN, 0x7FF5, **{**fields, **mistake})
    reply = script.step("success", domctl.CREATEDOMAIN, 0x7FF5, **fields)
    if reply is not None:
        script.xen.call(domctl.DESTROYDOMAIN, reply.field("domid"))
        script.samples.pop(domctl.CREATEDOMAIN)
        script.step("wrong interface version", domctl.CREATEDOMAIN, 0x7FF5, interface_version=WRONG_VERSION)


def attributes(script: Script, pv: int, pvh: int) -> None:
    script.step("success", domctl.GETDOMAININFO, pv)
    script.step("pvh", domctl.GETDOMAININFO, pvh)
    script.step("success", domctl.MAX_VCPUS, pv, max=2)
    script.step("other number", domctl.MAX_VCPUS, pv, max=3)
    script.step("success", domctl.MAX_MEM, pv, max_memkb=8192)
    script.step("success", domctl.SETDOMAINHANDLE, pv, handle=bytes(range(16)))
    script.step("success", domctl.GET_ADDRESS_SIZE, pv)
    script.step("pvh", domctl.GET_ADDRESS_SIZE, pvh)
    script.step("success", domctl.SET_ADDRESS_SIZE, pv, size=64)
    script.step("odd size", domctl.SET_ADDRESS_SIZE, pv, size=48)
    script.step("success", hvm.GET_PARAM, pvh, index=int(HvmParam.CONSOLE_PFN))
    script.step("pv", hvm.GET_PARAM, pv, index=int(HvmParam.CONSOLE_PFN))
    script.step("unknown param", hvm.GET_PARAM, pvh, index=999)
    script.step("success", hvm.SET_PARAM, pvh, index=int(HvmParam.CONSOLE_PFN), value=0x1234)
    script.step("pv", hvm.SET_PARAM, pv, index=int(HvmParam.CONSOLE_PFN), value=0x1234)
    script.step("read back", hvm.GET_PARAM, pvh, index=int(HvmParam.CONSOLE_PFN))


def vcpus(script: Script, pv: int) -> None:
    xen = script.xen
    script.step("success", domctl.GETVCPUINFO, pv, vcpu=1)
    script.step("success", domctl.GETVCPUAFFINITY, pv, vcpu=0, flags=BOTH, **MAPS)
    script.step("success", domctl.SETVCPUAFFINITY, pv, vcpu=0, flags=BOTH, **ALL_CPUS)
    script.step("no cpu", domctl.SETVCPUAFFINITY, pv, vcpu=0, flags=int(AffinityFlag.HARD), **NO_CPUS)
    one = {**ALL_CPUS, "cpumap_hard.bitmap": b"\x02" + bytes(7)}
    script.step("one cpu", domctl.SETVCPUAFFINITY, pv, vcpu=1, flags=int(AffinityFlag.HARD), **one)
    script.step("after pinning", domctl.GETVCPUAFFINITY, pv, vcpu=1, flags=BOTH, **MAPS)
    script.step("uninitialised", domctl.GETVCPUCONTEXT, pv, vcpu=0, ctxt=5168)
    context = VcpuContext.zero(64, xen.interface).replace(rip=0x1000, rax=7, cs=0xE033, ss=0xE02B, rsp=0x2000)
    script.step("without page tables", domctl.SETVCPUCONTEXT, pv, vcpu=0, ctxt=context.encode())
    script.step("wrong interface version", domctl.GETVCPUCONTEXT, pv, vcpu=0, interface_version=WRONG_VERSION)
    script.step("unknown domid", domctl.SETVCPUCONTEXT, ABSENT_DOMID, vcpu=0, ctxt=5168)
    script.step("missing vcpu", domctl.SETVCPUCONTEXT, pv, vcpu=ABSENT_VCPU, ctxt=5168)
    script.step("dom0 itself", domctl.SETVCPUCONTEXT, 0, vcpu=1, ctxt=5168)
    script.step("bad ctxt", domctl.SETVCPUCONTEXT, pv, vcpu=0, ctxt=NOWHERE)


def vcpus_at_once(script: Script, pv: int) -> None:
    """All vcpus in one multicall; one that does not exist fails alone."""
    infos = [info for info in script.xen.vcpus() if info.domid == pv]
    script.outcomes["multicall/infos"] = {
        "vcpus": [[info.vcpu, info.online, info.cpu_time_ns] for info in infos]
    }
    affinity = script.xen.affinities()[pv, 1]
    script.outcomes["multicall/affinity"] = {"hard": sorted(affinity.hard), "soft": sorted(affinity.soft)}
    batch = script.xen.caller.batch(domctl.GETVCPUINFO, 2, domid=[pv, ABSENT_DOMID], vcpu=0)
    script.outcomes["multicall/one fails"] = {"results": batch.results}


def memory_of_pv(script: Script, pv: int) -> None:
    pfns = b"".join(pfn.to_bytes(8, "little") for pfn in range(8))
    script.step("success", memory.POPULATE_PHYSMAP, pv, extent_start=pfns, nr_extents=8)
    frames = script.xen.call(memory.POPULATE_PHYSMAP, pv, extent_start=pfns, nr_extents=8).buffers[
        "extent_start"
    ]
    script.step("over the limit", memory.POPULATE_PHYSMAP, pv, extent_start=8 * 4096, nr_extents=4096)
    script.step("success", memory.INCREASE_RESERVATION, pv, extent_start=16, nr_extents=2)
    script.step("success", memory.DECREASE_RESERVATION, pv, extent_start=frames[:16], nr_extents=2)
    script.step("gone already", memory.DECREASE_RESERVATION, pv, extent_start=frames[:16], nr_extents=2)
    script.step("success", memory.CURRENT_RESERVATION, pv)
    script.step("success", memory.MAXIMUM_RESERVATION, pv)
    script.step("success", memory.MAXIMUM_RAM_PAGE)
    script.step("success", memory.MAXIMUM_GPFN, pv)
    script.step("success", memory.MACHPHYS_MFN_LIST, max_extents=1, extent_start=8)
    script.step("success", domctl.GETPAGEFRAMEINFO3, pv, num=2, array=frames[16:32])
    kinds = script.xen.call(domctl.GETPAGEFRAMEINFO3, pv, num=2, array=frames[16:32]).buffers["array"]
    script.outcomes["domctl.getpageframeinfo3/types"] = {"array": kinds.hex()}
    script.step("oversized list", domctl.GETPAGEFRAMEINFO3, pv, num=1025, array=8 * 1025)
    script.step("memory is there", domctl.SET_ADDRESS_SIZE, pv, size=32)
    map_both_ways(script, pv, int.from_bytes(frames[16:24], "little"))
    registers_of_pv(script, pv, int.from_bytes(frames[24:32], "little"))


def map_both_ways(script: Script, pv: int, frame: int) -> None:
    """A page of the guest: written, read back, and unreachable for dom0 under its own name."""
    domain = script.xen.domains[pv]
    domain.memory.write(frame, b"pyxc was here", 16)
    script.outcomes["map/read back"] = {"bytes": domain.memory.read(frame, 16, 13).hex()}
    script.outcomes["map/unknown frame"] = failure(lambda: domain.memory.read(2**40 - 5))
    shared = script.xen.domains[0].info().shared_info_frame
    script.outcomes["map/dom0 as DOMID_SELF"] = {"size": len(script.xen.domains[0].memory.read(shared))}
    size = script.xen.link.resource_size(pv, int(memory.Resource.GRANT_TABLE), 0)
    script.outcomes["map/grant table"] = {"frames": size}
    with script.xen.link.map_resource(pv, int(memory.Resource.GRANT_TABLE), 0, 0, 1) as table:
        script.outcomes["map/grant table page"] = {"bytes": bytes(table).rstrip(b"\0").hex()}


def failure(call: Callable[[], object]) -> dict[str, Any]:
    try:
        call()
    except OSError as error:
        return {"errno": error.errno, "kind": type(error).__name__}
    return {"errno": 0}


def registers_of_pvh(script: Script, pvh: int) -> None:
    """Those of a translated guest can be set like this, but not shown before its hvm context is loaded."""
    context = VcpuContext.zero(64, script.xen.interface).replace(rip=0x1000, rax=7, rsp=0x2000)
    script.step("pvh", domctl.SETVCPUCONTEXT, pvh, vcpu=0, ctxt=context.encode())
    script.step("pvh", domctl.GETVCPUCONTEXT, pvh, vcpu=0, ctxt=5168)


def registers_of_pv(script: Script, pv: int, root: int) -> None:
    """With an empty page table a vcpu can have registers; it stays offline."""
    domain = script.xen.domains[pv]
    domain.memory.write(root, bytes(4096))
    context = VcpuContext.zero(64, script.xen.interface).replace(
        flags=4,
        rip=0x1000,
        rax=7,
        rsp=0x2000,
        r15=2**64 - 1,
        cs=0xE033,
        ss=0xE02B,
        cr3=root << 12,
        fs_base=0x5000,
    )
    script.step("success", domctl.SETVCPUCONTEXT, pv, vcpu=0, ctxt=context.encode())
    script.step("success", domctl.GETVCPUCONTEXT, pv, vcpu=0, ctxt=5168)
    shown = domain.vcpu(0).context()
    registers = {name: value for name, value in shown.items() if value and name != "cr3"}
    script.outcomes["domctl.getvcpucontext/registers"] = {"root": shown["cr3"] == root << 12, **registers}
    script.step("another root", domctl.SETVCPUCONTEXT, pv, vcpu=0, ctxt=context.replace(cr3=0).encode())


def memory_of_pvh(script: Script, pvh: int) -> None:
    if script.xen.caller.supports(domctl.SET_PAGING_MEMPOOL_SIZE):
        script.step("success", domctl.SET_PAGING_MEMPOOL_SIZE, pvh, size=0x110000)
        script.step("odd size", domctl.SET_PAGING_MEMPOOL_SIZE, pvh, size=0x110001)
        script.step("success", domctl.GET_PAGING_MEMPOOL_SIZE, pvh)
    script.step("success", domctl.SHADOW_OP_SET_ALLOCATION, pvh, mb=2)
    script.step("success", domctl.SHADOW_OP_GET_ALLOCATION, pvh)
    script.xen.call(domctl.MAX_MEM, pvh, max_memkb=8192)
    gfns = b"".join(gfn.to_bytes(8, "little") for gfn in (16, 17, 0xFEFFF))
    script.step("pvh", memory.POPULATE_PHYSMAP, pvh, extent_start=gfns, nr_extents=3)
    script.step("pvh", memory.MAXIMUM_GPFN, pvh)
    script.step("success", memory.GET_POD_TARGET, pvh)
    kinds = script.xen.call(
        domctl.GETPAGEFRAMEINFO3, pvh, num=4, array=gfns + (99).to_bytes(8, "little")
    ).buffers["array"]
    script.outcomes["domctl.getpageframeinfo3/pvh types"] = {"array": kinds.hex()}


def channels_and_grants(script: Script, pv: int) -> None:
    reply = script.step("success", event_channel.ALLOC_UNBOUND, pv, remote_dom=0)
    port = reply.field("port") if reply else 1
    script.step("success", event_channel.STATUS, pv, port=port)
    script.step("missing port", event_channel.STATUS, pv, port=1 << 20)
    bound = script.step("success", event_channel.BIND_INTERDOMAIN, remote_dom=pv, remote_port=port)
    if bound is not None:
        script.step("bound", event_channel.STATUS, pv, port=port)
        script.step("success", event_channel.CLOSE, port=bound.field("local_port"))
        script.step("closed already", event_channel.CLOSE, port=bound.field("local_port"))
        for operation in (event_channel.BIND_INTERDOMAIN, event_channel.CLOSE):
            script.samples.pop(operation, None)
    script.step("success", grant_table.QUERY_SIZE, pv)
    script.step("success", grant_table.GET_VERSION, pv)


def states(script: Script, pv: int, pvh: int) -> None:
    script.step("success", domctl.PAUSEDOMAIN, pv)
    script.step("success", domctl.UNPAUSEDOMAIN, pv)
    script.step("last pause", domctl.UNPAUSEDOMAIN, pvh)
    script.step("not paused", domctl.UNPAUSEDOMAIN, pvh)
    script.step("not shut down", domctl.RESUMEDOMAIN, pvh)
    script.step("success", sched.REMOTE_SHUTDOWN, pvh, reason=2)
    info = script.xen.domains[pvh].info()
    script.outcomes["domctl.getdomaininfo/shut down"] = {
        "flags": int(info.flags),
        "reason": info.shutdown_reason,
    }
    script.step("success", domctl.RESUMEDOMAIN, pvh)


def differences(
    one: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[Any, Any]]:
    """Steps of which two runs differ, with both outcomes."""
    return {
        step: (one.get(step), other.get(step))
        for step in {**one, **other}
        if one.get(step) != other.get(step)
    }
