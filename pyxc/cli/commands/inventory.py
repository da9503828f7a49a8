# SPDX-License-Identifier: MIT
"""`vm-list`, `sharing`, `uptime` and `lsevtchn`: further lists of domains and of what they have."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.parser import Program
from pyxc.cli.session import find, infos, name_of, opened, shown

_VMS_HEADER = "UUID                                  ID    name"
_SHARING_HEADER = "Name                                        ID   Mem Shared"
_PAGE_KB = pyxc.PAGE_SIZE // 1024
_DAY_S, _HOUR_S = 86400, 3600


def add(program: Program) -> None:
    program.add("vm-list", list_vms, "list the guests with their UUIDs, as xl does")
    sharing = program.add("sharing", list_sharing, "list how much memory domains share")
    uptime = program.add("uptime", list_uptimes, "list how long domains have been running")
    uptime.add_argument("-s", "--short", action="store_true", help="one line of prose for each domain")
    for command in (sharing, uptime):
        command.add_argument(
            "domains", metavar="DOMAIN", nargs="*", help="id, name or UUID (default: all domains)"
        )
    ports = program.add("lsevtchn", list_ports, "list the event channels of a domain")
    ports.add_argument(
        "domain", metavar="DOMAIN", nargs="?", default="0", help="id, name or UUID (default: 0)"
    )


def list_vms(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        vms = [(info, name_of(xen, info)) for info in xen.domains.infos()]
    if args.json:
        output.report(args.json, domains=[_identity(info, name) for info, name in vms])
    else:
        rows = (f"{info.uuid}  {info.domid}    {output.padded(shown(name), 30)}" for info, name in vms)
        output.table(args.color, _VMS_HEADER, ((row, "") for row in rows))
    return 0


def _identity(info: pyxc.DomainInfo, name: str | None) -> dict[str, Any]:
    return {"domid": info.domid, "name": name, "uuid": str(info.uuid)}


def list_sharing(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        attempt = infos(xen, args.domains)
        found = [(info, name_of(xen, info)) for info in attempt.results]
    if args.json:
        domains = [
            {
                **_identity(info, name),
                "memory_kb": info.memory_kb,
                "shared_memory_kb": None if info.shr_pages is None else info.shr_pages * _PAGE_KB,
            }
            for info, name in found
        ]
        output.report(args.json, domains=domains, failed=attempt.failures)
    elif found or not attempt.failures:
        rows = (
            f"{output.padded(shown(name), 40)} {info.domid:5} {info.memory_kb >> 10:5}  "
            f"{(info.shr_pages or 0) * _PAGE_KB >> 10:5}"
            for info, name in found
        )
        output.table(args.color, _SHARING_HEADER, ((row, "") for row in rows))
    return attempt.status


def list_uptimes(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        attempt = infos(xen, args.domains)
        found = [(info, name_of(xen, info), _uptime_s(xen, info)) for info in attempt.results]
    if args.json:
        domains = [{**_identity(info, name), "uptime_s": uptime} for info, name, uptime in found]
        output.report(args.json, domains=domains, failed=attempt.failures)
    elif args.short:
        stamp = time.strftime("%H:%M:%S")
        output.lines(
            f" {stamp} up {_spelled(uptime, short=True)}, {shown(name)} ({info.domid})"
            for info, name, uptime in found
        )
    elif found or not attempt.failures:
        rows = (
            f"{output.padded(shown(name), 33)} {info.domid:4} {_spelled(uptime, short=False)}"
            for info, name, uptime in found
        )
        output.table(args.color, f"{'Name':<33} {'ID':>4} Uptime", ((row, "") for row in rows))
    return attempt.status


def _uptime_s(xen: pyxc.Xen, info: pyxc.DomainInfo) -> int | None:
    """Of this domain, what its kernel says; of a guest, since the toolstack started it. None: unknown."""
    try:
        if info.domid == xen.own_domid:
            root = xen.link.kernel_files
            return None if root is None else _since_boot_s(root)
        started = xen.store.read(f"/vm/{info.uuid}/start_time")
        return None if started is None else max(0, int(time.time() - float(started)))
    except (OSError, ValueError, OverflowError):
        return None


def _since_boot_s(root: str) -> int:
    with open(f"{root}/proc/uptime", encoding="ascii") as file:
        return int(float(file.read().split()[0]))


def _spelled(uptime_s: int | None, short: bool) -> str:
    """In xl's words: "2 days,  3:04:05", without the seconds where it is short."""
    if uptime_s is None:
        return "unknown"
    days, rest = divmod(uptime_s, _DAY_S)
    hours, rest = divmod(rest, _HOUR_S)
    clock = f"{hours:2}:{rest // 60:02}" + ("" if short else f":{rest % 60:02}")
    return f"{days} day{'s' if days > 1 else ''}, {clock}" if days else clock


def list_ports(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        ports = list(domain.channels.ports())
    if args.json:
        channels = [{**port._asdict(), "status": port.status.name.lower()} for port in ports]
        output.report(args.json, domid=domain.domid, channels=channels)
    else:
        output.lines(_port_lines(ports))
    return 0


def _port_lines(ports: list[pyxc.Channel]) -> Iterator[str]:
    """As lsevtchn of Xen's tools prints them."""
    for port in ports:
        parts = {
            "UNBOUND": f"Interdomain (Waiting connection) - Remote Domain {port.remote_domid}",
            "INTERDOMAIN": (
                f"Interdomain (Connected) - Remote Domain {port.remote_domid}, Port {port.remote_port}"
            ),
            "PIRQ": f"Physical IRQ {port.pirq}",
            "VIRQ": f"Virtual IRQ {port.virq}",
            "IPI": "IPI",
        }
        yield f"{port.port:4}: VCPU {port.vcpu}: {parts.get(port.status.name, port.status.name)}"
