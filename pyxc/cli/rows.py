# SPDX-License-Identifier: MIT
"""Domains in the columns of xentop."""

from __future__ import annotations

from collections.abc import Iterable

import pyxc
from pyxc.cli.screen import UNKNOWN, Row
from pyxc.cli.session import limit_kb, name_of, shown, style_of

WIDTHS = {
    "NAME": 10, "STATE": 6, "CPU(sec)": 10, "CPU(%)": 6, "MEM(k)": 10, "MEM(%)": 6, "MAXMEM(k)": 10,
    "MAXMEM(%)": 9, "VCPUS": 5, "NETS": 4, "NETTX(k)": 8, "NETRX(k)": 8, "VBDS": 4, "VBD_OO": 8, "VBD_RD": 8,
    "VBD_WR": 8, "VBD_RSECT": 10, "VBD_WSECT": 10, "SSID": 4,
}  # fmt: skip
_NETWORK_COLUMNS, _DISK_COLUMNS = 3, 6
_STATES = (
    (pyxc.DomainFlag.DYING, "d"),
    (pyxc.DomainFlag.SHUTDOWN, "s"),
    (pyxc.DomainFlag.BLOCKED, "b"),
    (None, "c"),
    (pyxc.DomainFlag.PAUSED, "p"),
    (pyxc.DomainFlag.RUNNING, "r"),
)
_BAR = 25
"""The width of a bar for a vcpu that is always busy."""


def line(columns: Iterable[object]) -> str:
    """A line of xentop's batch mode."""
    return " ".join([f"{column:>{width}}" for column, width in zip(map(str, columns), WIDTHS.values())])


def row(xen: pyxc.Xen, used: pyxc.DomainUsage, total_kb: int) -> Row:
    """A domain on a host with so much memory; its name in full."""
    info = used.info
    cells = [
        shown(name_of(xen, info)),
        _states(info),
        info.cpu_time_ns // 10**9,
        UNKNOWN if used.cpu_percent is None else f"{used.cpu_percent:.1f}",
        info.memory_kb,
        f"{100 * info.memory_kb / total_kb:.1f}",
        *_limit(info, total_kb),
        info.nr_vcpus,
        *_networks(used.networks),
        *_disks(used.disks),
        info.ssidref,
    ]
    return Row(
        tuple(map(str, cells)),
        style_of(info),
        tuple(map(_vcpu, used.vcpus)),
        tuple(map(_network, used.networks or ())),
        tuple(map(_disk, used.disks or ())),
    )


def _vcpu(used: pyxc.VcpuUsage) -> str:
    vcpu = used.info
    if not vcpu.online:
        return f"{'vcpu':>10} {vcpu.vcpu:3}  offline"
    percent = "-" if used.cpu_percent is None else f"{used.cpu_percent:.1f}"
    bar = "#" * round(min(used.cpu_percent or 0, 100) * _BAR / 100)
    seconds = vcpu.cpu_time_ns // 10**9
    return f"{'vcpu':>10} {vcpu.vcpu:3}  cpu {vcpu.cpu:3} {seconds:10} s {percent:>6}%  {bar}".rstrip()


def _network(one: pyxc.NetworkCounters) -> str:
    """Like xentop from the backend's side: what it receives is what the guest transmits."""
    received = f"RX {one.transmit_bytes:12}bytes {one.transmit_packets:9}pkts"
    transmitted = f"TX {one.receive_bytes:12}bytes {one.receive_packets:9}pkts"
    return f"{'net':>10} {one.device:3}  {received} {transmitted}"


def _disk(one: pyxc.DiskCounters) -> str:
    requests = f"OO {one.ring_full:6} RD {one.read_requests:9} WR {one.write_requests:9}"
    return f"{'vbd':>10} {one.name:4} {requests} RSECT {one.read_sectors:11} WSECT {one.write_sectors:11}"


def _limit(info: pyxc.DomainInfo, total_kb: int) -> tuple[str, str]:
    limit = limit_kb(info)
    if limit is None:
        return "no limit", UNKNOWN
    return str(limit), f"{100 * limit / total_kb:.1f}"


def _networks(networks: tuple[pyxc.NetworkCounters, ...] | None) -> list[object]:
    """In xentop's sense, which is the backend's: it transmits what the guest receives."""
    if networks is None:
        return [UNKNOWN] * _NETWORK_COLUMNS
    transmitted = sum(one.receive_bytes for one in networks)
    received = sum(one.transmit_bytes for one in networks)
    return [len(networks), transmitted // 1024, received // 1024]


def _disks(disks: tuple[pyxc.DiskCounters, ...] | None) -> list[object]:
    if disks is None:
        return [UNKNOWN] * _DISK_COLUMNS
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
