# SPDX-License-Identifier: MIT
"""`topology`, `memory` and `watch`: where vcpus run, what uses the memory, and changes of domains."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import pyxc
from pyxc.cli import output, pictures, svg
from pyxc.cli.arguments import seconds
from pyxc.cli.parser import Program
from pyxc.cli.pictures import Cpu, Node, Use, known
from pyxc.cli.session import name_of, opened, shown

_BAR = 30
"""The width of a bar for all memory."""
_PAGES_OF_MIB = 256
_PAGE_KB = pyxc.PAGE_SIZE // 1024


def add(program: Program) -> None:
    topology = program.add(
        "topology", show_topology, "show nodes, sockets, cores and cpus, and which vcpus they run"
    )
    svg.add_options(topology)
    memory = program.add("memory", show_memory, "show what uses the memory of the host, and how much is free")
    svg.add_options(memory)
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


def show_topology(args: argparse.Namespace) -> int:
    with svg.drawing(args) as draw, opened(args) as xen:
        names = {info.domid: name_of(xen, info) for info in xen.domains.infos()}
        pools = _pools(xen)
        vcpus: dict[int, list[str]] = {}
        for vcpu in xen.vcpus():
            if vcpu.online:
                vcpus.setdefault(vcpu.cpu, []).append(f"{shown(names.get(vcpu.domid))}/{vcpu.vcpu}")
        cpus = [
            Cpu(at.node, at.socket, at.core, at.cpu, pools.get(at.cpu), vcpus.get(at.cpu, []))
            for at in xen.topology()
        ]
        draw(lambda: pictures.topology(cpus))
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


def _tree(cpus: Iterable[Cpu]) -> Iterator[str]:
    """A line for each cpu, under a line for each node and socket."""
    node = socket = ""
    for cpu in sorted(cpus, key=lambda cpu: cpu.place):
        if node != (node := f"node {known(cpu.node)}"):
            yield node
            socket = ""
        if socket != (socket := f"  socket {known(cpu.socket)}"):
            yield socket
        vcpus = " ".join(cpu.vcpus) or "-"
        yield f"    core {known(cpu.core):>3}  cpu {cpu.cpu:>3}  {shown(cpu.pool or 'no pool'):10}  {vcpus}"


def show_memory(args: argparse.Namespace) -> int:
    with svg.drawing(args) as draw, opened(args) as xen:
        host, infos = xen.physinfo(), xen.domains.infos()
        names = {info.domid: name_of(xen, info) for info in infos}
        uses, nodes = _uses(host, infos, names), _nodes(xen)
        draw(lambda: pictures.memory(uses, nodes))
    claimed = sum(info.outstanding_pages or 0 for info in infos)
    if args.json:
        domains = [
            {"domid": info.domid, "name": names[info.domid], "memory_kb": info.memory_kb} for info in infos
        ]
        output.report(args.json,
            total_kb=host.total_memory_kb, free_kb=host.free_memory_kb, scrub_kb=host.scrub_memory_kb,
            claimed_kb=claimed * _PAGE_KB, xen_kb=uses[len(infos)].pages * _PAGE_KB, domains=domains,
        )  # fmt: skip
        return 0
    output.lines(_bars(uses, host.total_pages))
    if claimed:
        output.lines([f"{claimed // _PAGES_OF_MIB} MiB of the free memory are claimed by domains."])
    if len(nodes) > 1:
        output.lines(f"node {n.node}: {n.size_bytes >> 20} MiB, {n.free_bytes >> 20} MiB free" for n in nodes)
    return 0


def _uses(
    host: pyxc.PhysInfo, infos: Sequence[pyxc.DomainInfo], names: Mapping[int, str | None]
) -> list[Use]:
    """The memory of each domain, of Xen, what is to be cleared, and what is free."""
    owned, scrub = sum(info.tot_pages for info in infos), host.scrub_pages or 0
    uses = [Use(shown(names[info.domid]), info.tot_pages, True) for info in infos]
    # Memory that no domain owns and that is not free: Xen itself, its tables, and what it keeps for domains.
    uses.append(Use("(Xen)", max(0, host.total_pages - owned - host.free_pages - scrub), False))
    uses += [Use("(to be cleared)", scrub, False)] if scrub else []
    uses.append(Use("(free)", host.free_pages, False))
    return uses


def _nodes(xen: pyxc.Xen) -> list[Node]:
    """The NUMA nodes whose memory is known."""
    with suppress(pyxc.Unsupported):
        return [
            Node(node.node, node.size_bytes, node.free_bytes)
            for node in xen.numa()
            if node.size_bytes is not None and node.free_bytes is not None
        ]
    return []


def _bars(uses: Iterable[Use], total: int) -> Iterator[str]:
    yield f"{'Name':30} {'MiB':>8}     %"
    for use in uses:
        share = use.pages / total if total else 0
        bar = "#" * round(share * _BAR)
        yield f"{use.name:30} {use.pages // _PAGES_OF_MIB:8} {100 * share:5.1f}  {bar}".rstrip()


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
