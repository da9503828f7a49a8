# SPDX-License-Identifier: MIT
"""Metrics of the host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

from pyxc.host.usage import HostUsage
from pyxc.metrics.family import KB, NS, Facts, Family, Kind, Points, Value, label, labels


def _host(name: str, help: str, value: Callable[[HostUsage], Value], kind: Kind = "gauge") -> Family:
    def points(facts: Facts) -> Points:
        return [("", value(_usage(facts)))]

    return Family(f"xen_host_{name}", kind, help, points)


def _usage(facts: Facts) -> HostUsage:
    assert facts.sample.details is not None, "a scrape takes full samples"
    return facts.sample.details.host


def _bytes(kb: int | None) -> int | None:
    return None if kb is None else kb * KB


def _online_vcpus(facts: Facts) -> Points:
    return [("", sum(info.nr_online_vcpus for info in facts.sample.domains))]


def _idle(facts: Facts) -> Points:
    return [(label("cpu", cpu), idle * NS) for cpu, idle in enumerate(_usage(facts).idle_ns)]


def _node_memory(facts: Facts) -> Points:
    return [(label("node", node.node), node.size_bytes) for node in _usage(facts).nodes]


def _node_free(facts: Facts) -> Points:
    return [(label("node", node.node), node.free_bytes) for node in _usage(facts).nodes]


def _states(table: str, value: Callable[[Any], Value]) -> Callable[[Facts], Points]:
    def points(facts: Facts) -> Iterator[tuple[str, Value]]:
        for cpu, of_cpu in getattr(_usage(facts), table).items():
            for index, state in enumerate(of_cpu.states):
                yield labels(cpu=cpu, state=index), value(state)

    return points


def _current_p_state(facts: Facts) -> Points:
    return [(label("cpu", cpu), states.current) for cpu, states in _usage(facts).p_states.items()]


def _counters(facts: Facts) -> Points:
    """Names that come twice are added up."""
    found = Counter[str]()
    for counter in _usage(facts).counters:
        found[counter.name] += counter.total
    return [(label("counter", name), total) for name, total in found.items()]


def _pools(facts: Facts) -> Points:
    for pool in _usage(facts).pools:
        yield labels(pool=pool.pool_id, scheduler=_scheduler(pool.scheduler)), 1


def _pool_cpus(facts: Facts) -> Points:
    return [(label("pool", pool.pool_id), len(pool.cpus)) for pool in _usage(facts).pools]


def _pool_domains(facts: Facts) -> Points:
    return [(label("pool", pool.pool_id), pool.nr_domains) for pool in _usage(facts).pools]


def _scheduler(scheduler: int) -> str:
    return scheduler.name.lower() if isinstance(scheduler, IntEnum) else str(scheduler)


HOST = (
    _host("cpus", "Physical cpus.", lambda host: host.physinfo.nr_cpus),
    _host("cpu_nominal_hertz", "Nominal frequency of the cpus.", lambda host: host.physinfo.cpu_khz * 1000),
    _host("threads_per_core", "Threads of each core.", lambda host: host.physinfo.threads_per_core),
    _host("cores_per_socket", "Cores of each socket.", lambda host: host.physinfo.cores_per_socket),
    _host("nodes", "NUMA nodes.", lambda host: host.physinfo.nr_nodes),
    Family(
        "xen_host_cpu_idle_seconds_total", "counter", "Time for which a physical cpu had nothing to run.",
        _idle,
    ),
    _host("memory_bytes", "Memory of the host.", lambda host: _bytes(host.physinfo.total_memory_kb)),
    _host(
        "memory_free_bytes", "Memory that no domain owns.",
        lambda host: _bytes(host.physinfo.free_memory_kb),
    ),
    _host(
        "memory_scrub_bytes", "Free memory that must be scrubbed before a domain can get it.",
        lambda host: _bytes(host.physinfo.scrub_memory_kb),
    ),
    _host(
        "memory_claimed_bytes", "Memory that domains have claimed but not received yet.",
        lambda host: _bytes(host.physinfo.outstanding_memory_kb),
    ),
    Family("xen_host_node_memory_bytes", "gauge", "Memory of a NUMA node.", _node_memory),
    Family(
        "xen_host_node_memory_free_bytes", "gauge", "Memory of a NUMA node that no domain owns.",
        _node_free,
    ),
    Family(
        "xen_host_domains", "gauge", "Domains, dom0 and dying ones included.",
        lambda facts: [("", len(facts.sample.domains))],
    ),
    Family("xen_host_online_vcpus", "gauge", "Online vcpus of all domains.", _online_vcpus),
    Family(
        "xen_host_cpu_idle_state_seconds_total", "counter",
        "Time for which a physical cpu was in an idle state (C0 is 0).",
        _states("c_states", lambda state: state.residency_ns * NS),
    ),
    Family(
        "xen_host_cpu_idle_state_entries_total", "counter", "How often a physical cpu entered an idle state.",
        _states("c_states", lambda state: state.entered),
    ),
    Family(
        "xen_host_cpu_performance_state_seconds_total", "counter",
        "Time for which a physical cpu was in a performance state.",
        _states("p_states", lambda state: state.residency_ns * NS),
    ),
    Family(
        "xen_host_cpu_performance_state_entries_total", "counter",
        "How often a physical cpu entered a performance state.",
        _states("p_states", lambda state: state.entered),
    ),
    Family(
        "xen_host_cpu_performance_state_hertz", "gauge",
        "Frequency of a performance state of a physical cpu.",
        _states("p_states", lambda state: state.frequency_mhz * 10**6),
    ),
    Family(
        "xen_host_cpu_performance_state_current", "gauge", "The performance state that a physical cpu is in.",
        _current_p_state,
    ),
    Family(
        "xen_performance_counter_total", "counter",
        "A performance counter of all cpus, if Xen was built with them; it wraps at 32 bits.",
        _counters,
    ),
    Family("xen_pool_info", "gauge", "A cpu pool and its scheduler; always 1.", _pools),
    Family("xen_pool_cpus", "gauge", "Physical cpus of a pool.", _pool_cpus),
    Family("xen_pool_domains", "gauge", "Domains of a pool.", _pool_domains),
)  # fmt: skip
