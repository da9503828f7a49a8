# SPDX-License-Identifier: MIT
"""`top`: how busy domains are, in the columns of xentop's batch mode."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import number, seconds
from pyxc.cli.parser import Program
from pyxc.cli.session import name_of, opened, shown

_WIDTHS = {
    "NAME": 10, "STATE": 6, "CPU(sec)": 10, "CPU(%)": 6, "MEM(k)": 10, "MEM(%)": 6, "MAXMEM(k)": 10,
    "MAXMEM(%)": 9, "VCPUS": 5, "NETS": 4, "NETTX(k)": 8, "NETRX(k)": 8, "VBDS": 4, "VBD_OO": 8, "VBD_RD": 8,
    "VBD_WR": 8, "VBD_RSECT": 10, "VBD_WSECT": 10, "SSID": 4,
}  # fmt: skip
_UNKNOWN = "n/a"
_NETWORK_COLUMNS, _DISK_COLUMNS = 3, 6
_UNLIMITED_PAGES = 2**32 - 1
_STATES = (
    (pyxc.DomainFlag.DYING, "d"),
    (pyxc.DomainFlag.SHUTDOWN, "s"),
    (pyxc.DomainFlag.BLOCKED, "b"),
    (None, "c"),
    (pyxc.DomainFlag.PAUSED, "p"),
    (pyxc.DomainFlag.RUNNING, "r"),
)
_DELAY_S = 3.0


def add(program: Program) -> None:
    top = program.add("top", show, "show the cpu usage of domains, as xentop -b does")
    top.add_argument("-b", "--batch", action="store_true", help="accepted for xentop's sake; always on")
    top.add_argument(
        "-i",
        "--iterations",
        type=number,
        metavar="N",
        help="number of tables (default: endless; 1 with --json)",
    )
    top.add_argument("-d", "--delay", type=seconds, default=_DELAY_S, metavar="SECONDS", help="3 without")
    top.add_argument("-f", "--full-name", action="store_true", help="do not shorten names")


def show(args: argparse.Namespace) -> int:
    count = 1 if args.json and args.iterations is None else args.iterations
    with opened(args) as xen:
        total_kb = xen.physinfo().total_memory_kb
        found = itertools.islice(_usages(xen, args.delay), count)
        if args.json:
            samples = [[_json(xen, used) for used in usage] for usage in found]
            output.as_json(delay_s=args.delay, samples=samples)
            return 0
        for usage in found:
            output.lines([_line(_WIDTHS)])
            output.lines(_row(xen, used, total_kb, args.full_name) for used in usage)
            output.flush()
    return 0


def _usages(xen: pyxc.Xen, delay: float) -> Iterator[list[pyxc.DomainUsage]]:
    before = xen.sample()
    while True:
        time.sleep(delay)
        now = xen.sample()
        yield now.since(before)
        before = now


def _line(columns: Iterable[object]) -> str:
    return " ".join([f"{column:>{width}}" for column, width in zip(map(str, columns), _WIDTHS.values())])


def _row(xen: pyxc.Xen, used: pyxc.DomainUsage, total_kb: int, full_name: bool) -> str:
    info = used.info
    name = shown(name_of(xen, info))
    return _line(
        [
            name if full_name else name[: _WIDTHS["NAME"]],
            _states(info),
            info.cpu_time_ns // 10**9,
            _UNKNOWN if used.cpu_percent is None else f"{used.cpu_percent:.1f}",
            info.memory_kb,
            f"{100 * info.memory_kb / total_kb:.1f}",
            *_limit(info, total_kb),
            info.nr_vcpus,
            *_networks(used.networks),
            *_disks(used.disks),
            info.ssidref,
        ]
    )


def _limit(info: pyxc.DomainInfo, total_kb: int) -> tuple[str, str]:
    if info.max_pages == _UNLIMITED_PAGES:
        return "no limit", _UNKNOWN
    return str(info.max_memory_kb), f"{100 * info.max_memory_kb / total_kb:.1f}"


def _networks(networks: tuple[pyxc.NetworkCounters, ...] | None) -> list[object]:
    """In xentop's sense, which is the backend's: it transmits what the guest receives."""
    if networks is None:
        return [_UNKNOWN] * _NETWORK_COLUMNS
    transmitted = sum(one.receive_bytes for one in networks)
    received = sum(one.transmit_bytes for one in networks)
    return [len(networks), transmitted // 1024, received // 1024]


def _disks(disks: tuple[pyxc.DiskCounters, ...] | None) -> list[object]:
    if disks is None:
        return [_UNKNOWN] * _DISK_COLUMNS
    return [
        len(disks),
        sum(one.ring_full for one in disks),
        sum(one.read_requests for one in disks),
        sum(one.write_requests for one in disks),
        sum(one.read_sectors for one in disks),
        sum(one.write_sectors for one in disks),
    ]


def _states(info: pyxc.DomainInfo) -> str:
    crashed = info.shutdown_reason is pyxc.ShutdownReason.CRASH
    return "".join(
        letter if (crashed if flag is None else info.flags & flag) else "-" for flag, letter in _STATES
    )


def _json(xen: pyxc.Xen, used: pyxc.DomainUsage) -> dict[str, Any]:
    info = used.info
    return {
        "domid": info.domid,
        "name": name_of(xen, info),
        "uuid": str(info.uuid),
        "cpu_time_ns": info.cpu_time_ns,
        "cpu_percent": used.cpu_percent,
        "memory_kb": info.memory_kb,
        "max_memory_kb": info.max_memory_kb,
        "disks": _counters(used.disks),
        "networks": _counters(used.networks),
        "vcpus": [
            {"vcpu": vcpu.info.vcpu, "online": vcpu.info.online, "cpu": vcpu.info.cpu,
             "cpu_time_ns": vcpu.info.cpu_time_ns, "cpu_percent": vcpu.cpu_percent}
            for vcpu in used.vcpus
        ],
    }  # fmt: skip


def _counters(
    devices: tuple[pyxc.DiskCounters, ...] | tuple[pyxc.NetworkCounters, ...] | None,
) -> list[dict[str, Any]] | None:
    """Devices for JSON, each without the id of its domain."""
    return None if devices is None else [dict(zip(one._fields[1:], one[1:])) for one in devices]
