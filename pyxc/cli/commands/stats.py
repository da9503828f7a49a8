# SPDX-License-Identifier: MIT
"""`stats`: all that is measured, for programs."""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import number, scheduler_name, seconds
from pyxc.cli.parser import Program
from pyxc.cli.session import limit_kb, opened, state_of

_DELAY_S = 10.0
_PAGE_KB = pyxc.PAGE_SIZE // 1024


def add(program: Program) -> None:
    stats = program.add("stats", show, "print all measurements, for programs")
    stats.add_argument(
        "-i", "--iterations", type=number, default=1, metavar="N", help="number of samples; 0: endless"
    )
    stats.add_argument("-d", "--delay", type=seconds, default=_DELAY_S, metavar="SECONDS", help="10 without")


def show(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        found = _samples(xen, args.iterations, args.delay)
        if args.json == "json":
            output.report(args.json, samples=list(found))
            return 0
        for index, sample in enumerate(found):
            _print(sample, args.json, header=index == 0)
            output.flush()
    return 0


def _samples(xen: pyxc.Xen, iterations: int, delay: float) -> Iterator[dict[str, Any]]:
    """As objects for JSON; the first at once."""
    for index in itertools.count() if iterations == 0 else range(iterations):
        if index:
            time.sleep(delay)
        yield _object(xen.sample(full=True))


def _print(sample: dict[str, Any], form: str, header: bool) -> None:
    if form == "jsonl":
        output.json_line(**sample)
    elif form == "csv":
        output.csv([_row(sample["time_s"], domain) for domain in sample["domains"]], header)
    else:
        output.lines(_values("", sample))


def _values(path: str, value: Any) -> Iterator[str]:
    """Each value with the way to it, "domains.1.memory_kb 65536"; what is not known is left out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(f"{path}.{key}" if path else key, inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _values(f"{path}.{_key(inner, index)}", inner)
    elif value is not None:
        yield f"{path} {value}"


def _key(value: Any, index: int) -> object:
    """What identifies an object in its list."""
    names = ("domid", "vcpu", "device", "node", "pool_id", "cpu")
    return next((value[name] for name in names if isinstance(value, dict) and name in value), index)


_COLUMNS = (
    "time_s", "domid", "name", "uuid", "unique_id", "type", "state", "vcpus", "online_vcpus", "cpu_time_ns",
    "memory_kb", "max_memory_kb", "target_kb", "outstanding_memory_kb", "shared_memory_kb", "paged_memory_kb",
    "paging_pool_kb", "disks", "disk_read_bytes", "disk_write_bytes", "networks", "network_receive_bytes",
    "network_transmit_bytes",
)  # fmt: skip


def _row(time_s: float, domain: dict[str, Any]) -> dict[str, object]:
    """A domain in CSV: devices are added up."""
    disks, networks = domain["disks"], domain["networks"]
    sums = {
        "time_s": time_s,
        "vcpus": len(domain["vcpus"]),
        "disks": None if disks is None else len(disks),
        "disk_read_bytes": _sum(disks, "read_bytes"),
        "disk_write_bytes": _sum(disks, "write_bytes"),
        "networks": None if networks is None else len(networks),
        "network_receive_bytes": _sum(networks, "receive_bytes"),
        "network_transmit_bytes": _sum(networks, "transmit_bytes"),
    }
    return {column: {**domain, **sums}[column] for column in _COLUMNS}


def _sum(devices: list[dict[str, Any]] | None, key: str) -> int | None:
    return None if devices is None else sum(device[key] for device in devices)


def _object(sample: pyxc.Sample) -> dict[str, Any]:
    details = sample.details
    assert details is not None, "it was asked for"
    vcpus, disks, networks = (_by_domain(part) for part in (sample.vcpus, sample.disks, sample.networks))
    return {
        "time_s": round(time.time(), 3),
        "time_ns": sample.time_ns,
        "host": _host(details.host),
        "domains": [
            _domain(info, details.domains[info.domid])
            | {
                "vcpus": _records(vcpus, info.domid),
                "disks": _records(disks, info.domid, "name", "read_bytes", "write_bytes"),
                "networks": _records(networks, info.domid),
            }
            for info in sample.domains
        ],
    }


def _by_domain(records: Iterable[Any] | None) -> defaultdict[int, list[Any]] | None:
    """Vcpus or devices by the domain that has them; None for what is not known."""
    if records is None:
        return None
    found = defaultdict[int, list[Any]](list)
    for record in records:
        found[record.domid].append(record)
    return found


def _domain(info: pyxc.DomainInfo, details: pyxc.DomainDetails) -> dict[str, Any]:
    pages = {"shared_memory_kb": info.shr_pages, "paged_memory_kb": info.paged_pages}
    return {
        "domid": info.domid,
        "name": pyxc.readable(details.name),
        "uuid": str(info.uuid),
        "unique_id": details.unique_id,
        "type": "hvm" if info.is_hvm else "pv",
        "state": state_of(info),
        "cpupool": info.cpupool,
        "online_vcpus": info.nr_online_vcpus,
        "cpu_time_ns": info.cpu_time_ns,
        "memory_kb": info.memory_kb,
        "max_memory_kb": limit_kb(info),
        "target_kb": details.target_kb,
        "outstanding_memory_kb": info.outstanding_memory_kb,
        **{key: None if count is None else count * _PAGE_KB for key, count in pages.items()},
        "paging_pool_kb": details.paging_pool_kb,
        "pod": details.pod and details.pod._asdict(),
        "grant_frames": details.grant_frames,
        "max_grant_frames": details.max_grant_frames,
        "xenstore": details.store and details.store._asdict(),
    }


def _records(
    records: defaultdict[int, list[Any]] | None, domid: int, *properties: str
) -> list[dict[str, Any]] | None:
    """Those of a domain as objects, without its id."""
    if records is None:
        return None
    return [
        {key: value for key, value in one._asdict().items() if key != "domid"}
        | {name: getattr(one, name) for name in properties}
        for one in records[domid]
    ]


def _host(host: pyxc.HostUsage) -> dict[str, Any]:
    info = host.physinfo
    return {
        "cpus": info.nr_cpus,
        "cpu_khz": info.cpu_khz,
        "scheduler": scheduler_name(host.scheduler),
        "memory_kb": info.total_memory_kb,
        "free_memory_kb": info.free_memory_kb,
        "scrub_memory_kb": info.scrub_memory_kb,
        "outstanding_memory_kb": info.outstanding_memory_kb,
        "idle_ns": list(host.idle_ns),
        "nodes": [{**node._asdict(), "distances": list(node.distances)} for node in host.nodes],
        "pools": [
            {**pool._asdict(), "scheduler": scheduler_name(pool.scheduler), "cpus": sorted(pool.cpus)}
            for pool in host.pools
        ],
        "c_states": _states(host.c_states),
        "p_states": _states(host.p_states),
        "counters": {counter.name: counter.total for counter in host.counters},
    }


def _states(states: dict[int, Any]) -> list[dict[str, Any]]:
    return [{"cpu": cpu, "states": [one._asdict() for one in of.states]} for cpu, of in states.items()]
