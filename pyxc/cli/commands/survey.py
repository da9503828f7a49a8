# SPDX-License-Identifier: MIT
"""`topology`, `memory` and `watch`: where vcpus run, what uses the memory, and changes of domains."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import seconds
from pyxc.cli.parser import Program
from pyxc.cli.session import name_of, opened, shown

_BAR = 30
"""The width of a bar for all memory."""
_PAGES_OF_MIB = 256
_PAGE_KB = pyxc.PAGE_SIZE // 1024


def add(program: Program) -> None:
    program.add("topology", show_topology, "show nodes, sockets, cores and cpus, and which vcpus they run")
    program.add("memory", show_memory, "show what uses the memory of the host, and how much is free")
    watch = program.add("watch", watch_domains, "report when domains are created, shut down and disappear")
    watch.add_argument(
        "-d",
        "--delay",
        type=seconds,
        default=1.0,
        metavar="SECONDS",
        help="interval between checks (default: 1)",
    )
    watch.add_argument(
        "-t", "--time", type=seconds, metavar="SECONDS", help="end after this time (default: no limit)"
    )


class _Cpu(NamedTuple):
    """A cpu with its place, its pool, and the vcpus that run or last ran on it."""

    node: int | None
    socket: int | None
    core: int | None
    cpu: int
    pool: str | None
    vcpus: list[str]


def show_topology(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        names = {info.domid: name_of(xen, info) for info in xen.domains.infos()}
        pools = _pools(xen)
        vcpus: dict[int, list[str]] = {}
        for vcpu in xen.vcpus():
            if vcpu.online:
                vcpus.setdefault(vcpu.cpu, []).append(f"{shown(names.get(vcpu.domid))}/{vcpu.vcpu}")
        cpus = [
            _Cpu(at.node, at.socket, at.core, at.cpu, pools.get(at.cpu), vcpus.get(at.cpu, []))
            for at in xen.topology()
        ]
    if args.json:
        output.report(args.json, cpus=[cpu._asdict() for cpu in cpus])
    else:
        output.lines(_tree(cpus))
    return 0


def _pools(xen: pyxc.Xen) -> dict[int, str]:
    """The name, or else the id, of each cpu's pool; empty before Xen 4.1, which has no pools."""
    with suppress(pyxc.Unsupported):
        return {
            cpu: xen.names.pool_name(pool.pool_id) or str(pool.pool_id)
            for pool in xen.pools.infos()
            for cpu in pool.cpus
        }
    return {}


def _tree(cpus: Iterable[_Cpu]) -> Iterator[str]:
    """A line for each cpu, under a line for each node and socket."""
    node = socket = ""
    for cpu in sorted(cpus, key=lambda cpu: [-1 if place is None else place for place in cpu[:4]]):
        if node != (node := f"node {_known(cpu.node)}"):
            yield node
            socket = ""
        if socket != (socket := f"  socket {_known(cpu.socket)}"):
            yield socket
        vcpus = " ".join(cpu.vcpus) or "-"
        yield f"    core {_known(cpu.core):>3}  cpu {cpu.cpu:>3}  {shown(cpu.pool or 'no pool'):10}  {vcpus}"


def _known(number: int | None) -> str:
    return "?" if number is None else str(number)


def show_memory(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        host, infos = xen.physinfo(), xen.domains.infos()
        names = {info.domid: name_of(xen, info) for info in infos}
    owned = sum(info.tot_pages for info in infos)
    claimed = sum(info.outstanding_pages or 0 for info in infos)
    scrub = host.scrub_pages or 0
    rows = [(shown(names[info.domid]), info.tot_pages) for info in infos]
    # Memory that no domain owns and that is not free: Xen itself, its tables, and what it keeps for domains.
    rows.append(("(Xen)", max(0, host.total_pages - owned - host.free_pages - scrub)))
    rows += [("(to be cleared)", scrub)] if scrub else []
    rows.append(("(free)", host.free_pages))
    if args.json:
        domains = [
            {"domid": info.domid, "name": names[info.domid], "memory_kb": info.memory_kb} for info in infos
        ]
        output.report(args.json,
            total_kb=host.total_memory_kb, free_kb=host.free_memory_kb, scrub_kb=host.scrub_memory_kb,
            claimed_kb=claimed * _PAGE_KB, xen_kb=rows[len(infos)][1] * _PAGE_KB, domains=domains,
        )  # fmt: skip
        return 0
    output.lines(_bars(rows, host.total_pages))
    if claimed:
        output.lines([f"{claimed // _PAGES_OF_MIB} MiB of the free memory are claimed by domains."])
    return 0


def _bars(rows: Iterable[tuple[str, int]], total: int) -> Iterator[str]:
    yield f"{'Name':30} {'MiB':>8}     %"
    for name, pages in rows:
        share = pages / total if total else 0
        bar = "#" * round(share * _BAR)
        yield f"{name:30} {pages // _PAGES_OF_MIB:8} {100 * share:5.1f}  {bar}".rstrip()


def watch_domains(args: argparse.Namespace) -> int:
    with opened(args) as xen, xen.watch_domains(interval=args.delay) as watcher:
        if args.json and args.json != "csv":
            output.json_line(watching=[_identity(xen, info.domid, info.uuid) for info in xen.domains.infos()])
        header = True
        for event in watcher.events(args.time):
            reason = getattr(event.reason, "name", event.reason)
            whose = _identity(xen, event.domid, event.uuid)
            if args.json:
                _stream(args.json, header, change=event.change.value, reason=reason, **whose)
                header = False
            else:
                why = "" if reason is None else f", {str(reason).lower()}"
                stamp = time.strftime("%H:%M:%S")
                output.lines([f"{stamp} {shown(whose['name'])} ({event.domid}) {event.change.value}{why}"])
            output.flush()
    return 0


def _stream(form: str, header: bool, **event: Any) -> None:
    event = {"time_s": round(time.time(), 3), **event}
    if form == "csv":
        output.csv([event], header)
    else:
        output.json_line(**event)


def _identity(xen: pyxc.Xen, domid: int, uuid: UUID) -> dict[str, Any]:
    name = pyxc.readable(xen.names.domain_name(domid, uuid))
    return {"domid": domid, "uuid": str(uuid), "name": name}
