# SPDX-License-Identifier: MIT
"""Metrics of domains, their vcpus, disks and networks. Each has the labels domain (its name) and uuid."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pyxc.domain.details import DomainDetails
from pyxc.domain.info import DomainInfo
from pyxc.domain.vcpus import VcpuInfo
from pyxc.host.backends import DiskCounters, NetworkCounters
from pyxc.metrics.family import KB, NS, Facts, Family, Kind, Points, Value, label, labels
from pyxc.store.usage import StoreUsage

_PAGE_BYTES = 4096
_STATES = ("running", "runnable", "blocked", "offline")
_UNLIMITED_PAGES = 2**32 - 1


def _domain(name: str, help: str, value: Callable[[DomainInfo], Value], kind: Kind = "gauge") -> Family:
    def points(facts: Facts) -> Points:
        return [(text, value(info)) for text, info in facts.domains]

    return Family(f"xen_domain_{name}", kind, help, points)


def _detail(name: str, help: str, value: Callable[[DomainDetails], Value]) -> Family:
    def points(facts: Facts) -> Points:
        details = facts.sample.details
        assert details is not None, "a scrape takes full samples"
        return [(text, value(details.domains[domid])) for domid, text in facts.labels.items()]

    return Family(f"xen_domain_{name}", "gauge", help, points)


def _store(name: str, help: str, value: Callable[[StoreUsage], Value]) -> Family:
    return _detail(f"xenstore_{name}", help, lambda one: value(one.store) if one.store else None)


def _vcpu(name: str, help: str, value: Callable[[VcpuInfo], Value], kind: Kind = "gauge") -> Family:
    def points(facts: Facts) -> Points:
        return [(text, value(vcpu)) for text, vcpu in facts.vcpus]

    return Family(f"xen_domain_vcpu_{name}", kind, help, points)


def _runstates(facts: Facts) -> Iterator[tuple[str, Value]]:
    for (domid, vcpu), states in (facts.runstates or {}).items():
        if domid in facts.labels:
            for state in _STATES:
                seconds = getattr(states, f"{state}_ns") * NS
                yield f'{facts.labels[domid]},vcpu="{vcpu}",state="{state}"', seconds


def _waits(facts: Facts) -> Iterator[tuple[str, Value]]:
    for (domid, vcpu), states in (facts.runstates or {}).items():
        if domid in facts.labels:
            yield f'{facts.labels[domid]},vcpu="{vcpu}"', sum(states.waits)


def _disk(name: str, help: str, value: Callable[[DiskCounters], Value]) -> Family:
    def points(facts: Facts) -> Points:
        known = facts.labels
        return [
            (f"{known[disk.domid]},{label('disk', disk.name)}", value(disk))
            for disk in facts.sample.disks or ()
            if disk.domid in known
        ]

    return Family(f"xen_domain_disk_{name}_total", "counter", help, points)


def _network(name: str, help: str, value: Callable[[NetworkCounters], Value]) -> Family:
    def points(facts: Facts) -> Points:
        known = facts.labels
        return [
            (f"{known[net.domid]},{labels(device=net.device, interface=net.interface)}", value(net))
            for net in facts.sample.networks or ()
            if net.domid in known
        ]

    return Family(f"xen_domain_network_{name}_total", "counter", help, points)


def _info(facts: Facts) -> Iterator[tuple[str, Value]]:
    details = facts.sample.details
    assert details is not None, "a scrape takes full samples"
    for text, info in facts.domains:
        unique, pool = _known(details.domains[info.domid].unique_id), _known(info.cpupool)
        kind = "hvm" if info.is_hvm else "pv"
        yield f'{text},domid="{info.domid}",unique_id="{unique}",type="{kind}",pool="{pool}"', 1


def _known(number: int | None) -> str:
    return "" if number is None else str(number)


def _pages(count: int | None) -> int | None:
    return None if count is None else count * _PAGE_BYTES


def _limit(info: DomainInfo) -> int | None:
    return None if info.max_pages == _UNLIMITED_PAGES else info.max_pages * _PAGE_BYTES


def _reason(info: DomainInfo) -> int | None:
    return None if info.shutdown_reason is None else int(info.shutdown_reason)


def _kb(kb: int | None) -> int | None:
    return None if kb is None else kb * KB


DOMAIN = (
    Family(
        "xen_domain_info", "gauge", "A domain: its current id, unique id, type and pool; always 1.",
        _info,
    ),
    _domain("running", "Whether any of its vcpus is running now.", lambda info: info.running),
    _domain("blocked", "Whether all its vcpus are waiting for events.", lambda info: info.blocked),
    _domain("paused", "Whether it is paused.", lambda info: info.paused),
    _domain("shut_down", "Whether it has shut down but still exists.", lambda info: info.shut_down),
    _domain("dying", "Whether it is being destroyed.", lambda info: info.dying),
    _domain("crashed", "Whether it has crashed.", lambda info: info.crashed),
    _domain(
        "shutdown_reason", "Why it shut down: 0 poweroff, 1 reboot, 2 suspend, 3 crash, 4 watchdog.",
        _reason,
    ),
    _domain(
        "cpu_seconds_total", "Time for which its vcpus ran.",
        lambda info: info.cpu_time_ns * NS, "counter",
    ),
    _domain("vcpus", "Vcpus that it has.", lambda info: info.nr_vcpus),
    _domain("online_vcpus", "Vcpus that its guest has brought online.", lambda info: info.nr_online_vcpus),
    _domain("memory_bytes", "Memory that it owns.", lambda info: info.tot_pages * _PAGE_BYTES),
    _domain("memory_limit_bytes", "The most memory that it may own; absent without a limit.", _limit),
    _detail(
        "memory_target_bytes", "Target of its balloon driver.",
        lambda one: _kb(one.target_kb),
    ),
    _domain(
        "memory_claimed_bytes", "Memory that it has claimed but not received yet.",
        lambda info: _pages(info.outstanding_pages),
    ),
    _domain(
        "memory_shared_bytes", "Memory that it shares with other domains.",
        lambda info: _pages(info.shr_pages),
    ),
    _domain("memory_paged_bytes", "Memory that is paged out.", lambda info: _pages(info.paged_pages)),
    _detail(
        "paging_pool_bytes", "Memory that Xen reserves for its page tables.",
        lambda one: _kb(one.paging_pool_kb),
    ),
    _detail(
        "pod_cache_bytes", "Reserved memory for populating it on demand.",
        lambda one: one.pod and one.pod.pod_cache_pages * _PAGE_BYTES,
    ),
    _detail(
        "pod_unpopulated_bytes", "Part of its address space that is not populated yet.",
        lambda one: one.pod and one.pod.pod_entries * _PAGE_BYTES,
    ),
    _detail("grant_table_frames", "Pages of its grant table.", lambda one: one.grant_frames),
    _detail(
        "grant_table_frames_limit", "Pages that its grant table may have.",
        lambda one: one.max_grant_frames,
    ),
    _store("nodes", "Nodes of xenstore that it owns.", lambda used: used.nodes),
    _store("watches", "Its watches in xenstore.", lambda used: used.watches),
    _store("transactions", "Its open transactions in xenstore.", lambda used: used.transactions),
    _store("outstanding_requests", "Its requests that are not done.", lambda used: used.outstanding),
    _store("memory_bytes", "Memory of xenstored that it takes.", lambda used: used.memory),
    _vcpu("seconds_total", "Time for which a vcpu ran.", lambda vcpu: vcpu.cpu_time_ns * NS, "counter"),
    _vcpu("online", "Whether the guest has brought a vcpu online.", lambda vcpu: bool(vcpu.online)),
    _vcpu("running", "Whether a vcpu is running now.", lambda vcpu: bool(vcpu.running)),
    _vcpu("blocked", "Whether a vcpu is waiting for an event.", lambda vcpu: bool(vcpu.blocked)),
    _vcpu("cpu", "The physical cpu on which a vcpu runs or last ran.", lambda vcpu: vcpu.cpu),
    Family(
        "xen_domain_vcpu_runstate_seconds_total", "counter",
        "Time of a vcpu in each state since the exporter started; runnable is steal time.",
        _runstates,
    ),
    Family("xen_domain_vcpu_wakes_total", "counter", "How often a vcpu was woken.", _waits),
    Family(
        "xen_trace_lost_records_total", "counter", "Trace records that Xen could not write.",
        lambda facts: [("", facts.lost_records)],
    ),
    _disk("read_bytes", "Bytes read from a virtual disk.", lambda disk: disk.read_bytes),
    _disk("write_bytes", "Bytes written to a virtual disk.", lambda disk: disk.write_bytes),
    _disk("reads", "Requests to read from a virtual disk.", lambda disk: disk.read_requests),
    _disk("writes", "Requests to write to a virtual disk.", lambda disk: disk.write_requests),
    _disk("flushes", "Requests to flush a virtual disk.", lambda disk: disk.flush_requests),
    _disk("discards", "Requests to discard blocks of a virtual disk.", lambda disk: disk.discard_requests),
    _disk("ring_full", "Requests that waited for memory of the backend.", lambda disk: disk.ring_full),
    _network("receive_bytes", "Bytes that the guest received.", lambda net: net.receive_bytes),
    _network("receive_packets", "Packets that the guest received.", lambda net: net.receive_packets),
    _network("receive_errors", "Packets for the guest with errors.", lambda net: net.receive_errors),
    _network("receive_drops", "Packets for the guest that were dropped.", lambda net: net.receive_drops),
    _network("transmit_bytes", "Bytes that the guest sent.", lambda net: net.transmit_bytes),
    _network("transmit_packets", "Packets that the guest sent.", lambda net: net.transmit_packets),
    _network("transmit_errors", "Packets of the guest with errors.", lambda net: net.transmit_errors),
    _network("transmit_drops", "Packets of the guest that were dropped.", lambda net: net.transmit_drops),
)  # fmt: skip
