# SPDX-License-Identifier: MIT
"""Everything that a program can ask an open hypervisor, if the answer is decoded.

`pv` and `hvm` are the domains web1 and db1 of a simulated host.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import UUID

from pyxc import Domain, HvmParam, Scheduler, ShutdownReason, Virq, Xen, errors
from pyxc.abi.arch import x86
from pyxc.abi.cpu_policy import Featureset, Policy
from pyxc.call import probe, trace
from pyxc.call.caller import Caller
from pyxc.compat.xc import Error as CompatError
from pyxc.compat.xc import xc
from pyxc.host.trace_records import decoded

Question = Callable[[Xen], object]

_WEB1 = UUID("6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01")
_DB1 = UUID("b84e7c10-2f6d-4d0a-9a3e-51c2d3e4f502")
_SMALL = UUID("11111111-2222-4333-8444-555555555502")
_FEW_PFNS = 600


def pv(xen: Xen) -> Domain:
    return Domain(xen, 1, _WEB1)


def hvm(xen: Xen) -> Domain:
    return Domain(xen, 2, _DB1)


def small(xen: Xen) -> Domain:
    """The domain that _make_small() made."""
    return Domain(xen, 4, _SMALL)


HOST: dict[str, Question] = {
    "probe": lambda xen: probe.interface_of(xen.link),
    "version": lambda xen: (str(xen.version), xen.capabilities, xen.commandline, xen.features, xen.build),
    "physinfo": lambda xen: (xen.physinfo(), xen.nr_cpus, xen.platform, xen.grant_version, xen.virt_start),
    "scheduler": lambda xen: xen.scheduler,
    "topology": lambda xen: xen.topology(),
    "numa": lambda xen: xen.numa(),
    "idle_ns": lambda xen: xen.idle_ns(),
    "available_bytes": lambda xen: xen.available_bytes(),
    "vcpus": lambda xen: xen.vcpus(),
    "affinities": lambda xen: xen.affinities(),
    "sample": lambda xen: xen.sample(),
    "sample.full": lambda xen: xen.sample(full=True),
    "usage": lambda xen: _usage(xen),
    "traced": lambda xen: _traced(xen),
    "console.read": lambda xen: xen.console.read(),
    "console.clear": lambda xen: xen.console.clear(),
    "console.read_from": lambda xen: xen.console.read_from(5),
    "cpu_policies.host": lambda xen: xen.cpu_policies.host(Policy.HOST),
    "cpu_policies.featureset": lambda xen: xen.cpu_policies.featureset(Featureset.HOST),
    "cpu_policies.levelling_caps": lambda xen: xen.cpu_policies.levelling_caps(),
    "flask": lambda xen: (xen.flask.present, xen.flask.enforcing(), xen.flask.policy_version),
    "flask.access": lambda xen: (xen.flask.access(1, 2, "domain"), xen.flask.sid("a:b:c")),
    "flask.context": lambda xen: xen.flask.context(1),
    "flask.booleans": lambda xen: (dict(xen.flask.booleans), xen.flask.booleans.set("a", True)),
    "hypfs.walk": lambda xen: list(xen.hypfs.walk()),
    "hypfs.read": lambda xen: (xen.hypfs.version, xen.hypfs.read("/buildinfo/config")),
    "hypfs.write": lambda xen: xen.hypfs.write("/params/x", 3),
    "livepatches.all": lambda xen: xen.livepatches.all(),
    "livepatches.status": lambda xen: xen.livepatches.status("fix"),
    "perfc": lambda xen: xen.perfc.read(),
    "lockprof": lambda xen: xen.lockprof.read(),
    "trace_buffers.info": lambda xen: xen.trace_buffers.info(),
    "trace_buffers.read": lambda xen: _traced_records(xen),
    "pm.p_states": lambda xen: xen.pm.p_states(0),
    "pm.c_states": lambda xen: xen.pm.c_states(0),
    "pm.frequency": lambda xen: xen.pm.frequency(0),
    "pm.max_c_state": lambda xen: xen.pm.max_c_state(),
    "pools": lambda xen: (xen.pools.infos(), xen.pools.free_cpus()),
    "pools.scheduling": lambda xen: xen.pools[0].scheduling(),
    "pools.create": lambda xen: xen.pools.create(),
    "domains": lambda xen: xen.domains.infos(),
    "domains.by_name": lambda xen: xen.domains["web1"],
    "domains.by_id": lambda xen: xen.domains[1],
    "domains.create": lambda xen: xen.domains.create(hvm=True, hap=True, max_vcpus=2),
    "leftovers": lambda xen: xen.leftovers(),
    "watch_domains": lambda xen: _changes(xen),
    "events": lambda xen: _events(xen),
}
"""About the host as a whole."""

DOMAINS: dict[str, Question] = {
    "info": lambda xen: (pv(xen).info(), pv(xen).exists(), pv(xen).pool(), pv(xen).scheduler()),
    "name": lambda xen: pv(xen).name,
    "label": lambda xen: pv(xen).label(),
    "guest_bits": lambda xen: pv(xen).guest_bits(),
    "tsc_info": lambda xen: pv(xen).tsc_info(),
    "vnuma": lambda xen: pv(xen).vnuma(),
    "node_affinity": lambda xen: pv(xen).node_affinity(),
    "cpu_policy": lambda xen: pv(xen).cpu_policy(),
    "scheduling": lambda xen: pv(xen).scheduling(),
    "set_scheduling": lambda xen: pv(xen).set_scheduling(weight=300),
    "map_pirq": lambda xen: hvm(xen).map_pirq(16),
    "resume": lambda xen: pv(xen).resume(fast=False),
    "resume.fast": lambda xen: pv(xen).resume(fast=True),
    "hvm_context": lambda xen: hvm(xen).hvm_context.read(),
    "hvm_record": lambda xen: hvm(xen).hvm_context.record(2),
    "hvm_params": lambda xen: (hvm(xen).hvm_params.all(), hvm(xen).hvm_params.read(HvmParam.STORE_PFN)),
    "vcpus": lambda xen: (pv(xen).vcpus.infos(), pv(xen).vcpus.scheduling()),
    "rtds": lambda xen: (pv(xen).scheduling(), pv(xen).vcpus.scheduling()),
    "rtds.set": lambda xen: pv(xen).set_scheduling(period_us=20000),
    "vcpu.info": lambda xen: (pv(xen).vcpu(0).info(), pv(xen).vcpu(0).affinity()),
    "vcpu.context": lambda xen: pv(xen).vcpu(0).context(),
    "channels": lambda xen: (pv(xen).channels.status(1), pv(xen).channels.ports()),
    "channels.open": lambda xen: pv(xen).channels.open(),
    "grants": lambda xen: pv(xen).grants.info(),
    "grants.map": lambda xen: _contents(pv(xen).grants.map([1, 2])),
    "grants.lend": lambda xen: pv(xen).grants.lend(2),
    "grants.seed": lambda xen: pv(xen).grants.seed(console=1, store=2),
    "pci.group": lambda xen: xen.pci_group("0000:03:00.0"),
    "pci.can_assign": lambda xen: pv(xen).pci.can_assign("0000:03:00.0"),
    "log_dirty": lambda xen: _dirty(hvm(xen)),
    "dm_op": lambda xen: xen.dm_op("track_dirty_vram", 2, bytes(8), first_pfn=0, nr=64).fields(),
    "memory": lambda xen: (pv(xen).memory.info(), pv(xen).memory.maximum_gpfn()),
    "memory.pod": lambda xen: (hvm(xen).memory.pod_target(), hvm(xen).memory.paging_pool_kb()),
    "memory.read": lambda xen: pv(xen).memory.read(5, 4000, 200),
    "memory.populate": lambda xen: hvm(xen).memory.populate([20000, 20001, 20002]),
    "memory.increase": lambda xen: pv(xen).memory.increase(3),
    "memory.decrease": lambda xen: pv(xen).memory.decrease([1, 2, 3]),
    "memory.frames": lambda xen: pv(xen).memory.frames(),
    "memory.frames.getmemlist": lambda xen: pv(xen).memory.frames(source="getmemlist"),
    "memory.frames.types": lambda xen: pv(xen).memory.frames(types=True),
    "memory.frames.types.hvm": lambda xen: small(xen).memory.frames(types=True, force=True),
    "memory.runs": lambda xen: list(pv(xen).memory.runs()),
    "memory.p2m": lambda xen: pv(xen).memory.p2m(),
    "memory.p2m.tree": lambda xen: pv(xen).memory.p2m("frame_list_list"),
    "dump_core": lambda xen: _dump(pv(xen)),
    "dump_core.hvm": lambda xen: _dump(small(xen)),
}
"""About a domain."""

STORE: dict[str, Question] = {
    "read": lambda xen: xen.store.read("/local/domain/1/name"),
    "read_many": lambda xen: xen.store.read_many(["/local/domain/1/name", "/nothing"]),
    "list": lambda xen: xen.store.list("/local/domain/1"),
    "permissions": lambda xen: xen.store.permissions("/local/domain/1"),
    "transact": lambda xen: xen.store.transact(lambda tx: (tx.read("/a"), tx.write("/a", "1"))),
    "watch": lambda xen: _watched(xen),
    "domain_path": lambda xen: (xen.store.domain_path(1), xen.store.is_introduced(1)),
}
"""Of xenstore."""

_OLD: dict[str, Callable[[xc], object]] = {
    "physinfo": lambda old: old.physinfo(),
    "getcpuinfo": lambda old: old.getcpuinfo(4),
    "topologyinfo": lambda old: old.topologyinfo(),
    "numainfo": lambda old: old.numainfo(),
    "xeninfo": lambda old: (old.xeninfo(), old.buildid()),
    "readconsolering": lambda old: old.readconsolering(),
    "domain_getinfo": lambda old: old.domain_getinfo(),
    "domain_create": lambda old: old.domain_create(),
    "vcpu_getinfo": lambda old: (old.vcpu_getinfo(1, 0), old.vcpu_setaffinity(1, 0, [0])),
    "get_device_group": lambda old: old.get_device_group(1, 0, 3, 0, 0),
    "sched": lambda old: (old.sched_id_get(), old.sched_credit_domain_get(1)),
    "sched_credit2": lambda old: old.sched_credit2_domain_get(1),
    "cpupool_getinfo": lambda old: (old.cpupool_getinfo(), old.cpupool_freeinfo()),
    "flask": lambda old: (old.flask_sid_to_context(1), old.flask_access("a:b:c", "a:b:c", 2, 1)),
    "memory": lambda old: (old.shadow_mem_control(2), old.hvm_get_param(2, 1)),
}


def _through_xc(question: Callable[[xc], object], xen: Xen) -> object:
    """A question through xen.lowlevel.xc; the handle is closed here."""
    binding = object.__new__(xc)
    binding._xen = xen
    try:
        return question(binding)
    except CompatError as error:
        raise errors.Error(*error.args) from error
    finally:
        binding._xen = None


COMPAT: dict[str, Question] = {name: partial(_through_xc, question) for name, question in _OLD.items()}
"""Through xen.lowlevel.xc."""


BEFORE: dict[str, Question] = {
    "dump_core": lambda xen: _publish_little(xen),
    "dump_core.hvm": lambda xen: _make_small(xen),
    "memory.frames": lambda xen: _publish_little(xen),
    "memory.frames.types": lambda xen: _publish_little(xen),
    "memory.runs": lambda xen: _publish_little(xen),
    "memory.frames.types.hvm": lambda xen: _make_small(xen),
    "memory.p2m": lambda xen: _publish_little(xen),
    "memory.p2m.tree": lambda xen: _publish_little(xen),
    "resume": lambda xen: _suspend(xen),
    "resume.fast": lambda xen: pv(xen).shutdown(ShutdownReason.SUSPEND),
    "rtds": lambda xen: _move_to_rtds(xen),
    "rtds.set": lambda xen: _move_to_rtds(xen),
}
"""What has to be done to a host before there is an answer."""

REFUSES: dict[str, tuple[type[Exception], ...]] = {
    "domains.by_name": (KeyError,),
    "hvm_record": (KeyError,),
    "hypfs.write": (TypeError, ValueError),
    "map_pirq": (ValueError,),
    "memory.frames": (MemoryError,),
    "memory.frames.getmemlist": (MemoryError,),
    "memory.frames.types": (MemoryError,),
    "pools.scheduling": (KeyError,),
    "resume": (ValueError,),
    "resume.fast": (ValueError,),
    "rtds.set": (ValueError,),
    "set_scheduling": (ValueError,),
}
"""What is documented to be raised besides pyxc's errors, as when by the answer the question was wrong."""


def _traced_records(xen: Xen) -> object:
    """The contents of trace buffers that are created for this."""
    found: list[object] = []
    with xen.trace_buffers.record(pages=1) as reader:
        reader.take(lambda cpu, data: found.extend(decoded(xen.words32(bytes(data)), cpu)))
    return found


def _usage(xen: Xen) -> object:
    before = xen.sample()
    return xen.sample().since(before._replace(time_ns=-1))


def _traced(xen: Xen) -> str:
    """What PYXC_TRACE prints."""
    lines = io.StringIO()
    traced = Xen(xen.link, Caller(xen.link, xen.interface, trace=trace.printer(lines)), names=False)
    traced.domains.infos()
    traced.vcpus()
    traced.physinfo()
    return lines.getvalue()


def _changes(xen: Xen) -> object:
    with xen.watch_domains("poll") as watcher:
        return [watcher.wait(0), watcher.wait(0)]


def _events(xen: Xen) -> object:
    with xen.events() as channels:
        port = channels.bind_virq(Virq.DOM_EXC)
        return [channels.wait(0), channels.wait(0), channels.unbind(port)]


def _publish_little(xen: Xen) -> None:
    """Let a PV guest report a short p2m: the whole one would be a megabyte of answers."""
    offset = x86.SHARED_INFO_STRUCT.at(xen.interface).offsets["arch.max_pfn"]
    page = pv(xen).info().shared_info_frame
    pv(xen).memory.write(page, _FEW_PFNS.to_bytes(8, "little"), offset)


def _suspend(xen: Xen) -> None:
    """Suspend as a guest does: with the frame of its start_info in rdx, which then contains pfns."""
    domain, page = pv(xen), pv(xen).memory.p2m().entries[5]
    domain.shutdown(ShutdownReason.SUSPEND)
    start_info = x86.START_INFO_STRUCT.at(xen.interface).pack({"store_mfn": 1, "console.domU.mfn": 2})
    domain.memory.write(page, start_info)
    domain.vcpu(0).set_context(domain.vcpu(0).context().replace(rdx=page))


def _move_to_rtds(xen: Xen) -> None:
    pool = xen.pools.create(Scheduler.RTDS)
    xen.pools[0].remove_cpu(1)
    pool.add_cpu(1)
    pool.add_domain(pv(xen))


def _make_small(xen: Xen) -> None:
    domain = xen.domains.create(hvm=True, hap=True, uuid=_SMALL)
    domain.set_max_memory(400)
    domain.memory.populate(range(20))


def _contents(mapped: object) -> bytes:
    return bytes(mapped)  # type: ignore[call-overload, no-any-return]


def _dirty(domain: Domain) -> object:
    found = domain.log_dirty.peek(pages=70)
    return found, found.frames()


def _dump(domain: Domain) -> object:
    with tempfile.TemporaryDirectory(prefix="pyxc-fuzz-") as directory:
        return domain.dump_core(Path(directory) / "core", provenance="none")


def _watched(xen: Xen) -> object:
    with xen.store.watch("/local/domain/1") as watch:
        return [watch.get(0.01), watch.get(0.01)]
