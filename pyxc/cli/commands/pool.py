# SPDX-License-Identifier: MIT
"""`cpupool-list` and the commands that change cpu pools, as xl has them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.parser import Parser, Program
from pyxc.cli.session import Attempt, find, opened, shown
from pyxc.cli.status import Failed, UsageError
from pyxc.guest.cpu_lists import cpu_set

_KEYS = ("name", "sched", "cpus", "nodes")
_SCHEDULERS = [scheduler.name.lower() for scheduler in pyxc.Scheduler]


def add(program: Program) -> None:
    listing = program.add("cpupool-list", list_pools, "list cpu pools, as xl does")
    listing.add_argument("pools", metavar="CPUPOOL", nargs="*", help="id or name (default: all pools)")
    listing.add_argument("-c", "--cpus", action="store_true", help="show the cpus of each pool")
    create = program.add("cpupool-create", create_pool, "create a cpu pool and print its id")
    create.add_argument("-n", "--name", help="its name in xenstore")
    create.add_argument("-s", "--sched", choices=_SCHEDULERS, help="its scheduler (default: the host's)")
    create.add_argument("-c", "--cpus", metavar="CPUS", help='free cpus to add: "2-3", all, nodes:1')
    create.add_argument(
        "settings", metavar="KEY=VALUE", nargs="*", help="name, sched, cpus and nodes, as in xlcpupool.cfg(5)"
    )
    program.add("cpupool-numa-split", split, "make a cpu pool of each NUMA node")
    _add(program, "cpupool-destroy", destroy_pool, "remove a cpu pool that has no domains")
    _add(program, "cpupool-rename", rename_pool, "rename a cpu pool").add_argument(
        "name", metavar="NAME", help="the new name"
    )
    for verb, run, purpose in (
        ("add", add_cpus, "add free cpus to a cpu pool"),
        ("remove", remove_cpus, "remove cpus from a cpu pool"),
    ):
        _add(program, f"cpupool-cpu-{verb}", run, purpose).add_argument(
            "cpus", metavar="CPUS", help='like 0-3,5; those of a node with "node:1"'
        )
    migrate = program.add("cpupool-migrate", migrate_domain, "move a domain into a cpu pool")
    migrate.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    migrate.add_argument("pool", metavar="CPUPOOL", help="id or name")


def _add(program: Program, name: str, run: Callable[[argparse.Namespace], int], purpose: str) -> Parser:
    command = program.add(name, run, purpose)
    command.add_argument("pool", metavar="CPUPOOL", help="id or name")
    return command


def find_pool(xen: pyxc.Xen, text: str) -> pyxc.Pool:
    """The pool with an id or a name. Failed if there is none; Ambiguous, StoreError as for domains."""
    try:
        return xen.pools[text]
    except KeyError as error:
        raise Failed(error.args[0]) from error


def list_pools(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        wanted = {find_pool(xen, text).pool_id for text in args.pools}
        infos = [info for info in xen.pools.infos() if not wanted or info.pool_id in wanted]
        pools = [(info, xen.pools[info.pool_id].name) for info in infos]
    if args.json:
        output.report(args.json, pools=[_json(info, name) for info, name in pools])
        return 0
    output.lines([f"{'Name':<19}" + ("CPU list" if args.cpus else "CPUs   Sched     Active   Domain count")])
    output.lines(_row(info, name, args.cpus) for info, name in pools)
    return 0


def _row(info: pyxc.PoolInfo, name: str | None, cpus: bool) -> str:
    if cpus:
        return f"{shown(name):<19}{','.join(map(str, sorted(info.cpus)))}"
    counts = f"{len(info.cpus):3} {_scheduler(info):>9}       y       {info.nr_domains:4}"
    return f"{shown(name):<19}{counts}"


def _scheduler(info: pyxc.PoolInfo) -> str:
    return info.scheduler.name.lower() if isinstance(info.scheduler, pyxc.Scheduler) else "unknown"


def _json(info: pyxc.PoolInfo, name: str | None) -> dict[str, Any]:
    known = isinstance(info.scheduler, pyxc.Scheduler)
    return {
        "pool_id": info.pool_id,
        "name": pyxc.readable(name),
        "scheduler": _scheduler(info) if known else int(info.scheduler),
        "domains": info.nr_domains,
        "cpus": sorted(info.cpus),
    }


def create_pool(args: argparse.Namespace) -> int:
    _read_settings(args)
    with opened(args) as xen:
        cpus = cpu_set(args.cpus, xen.topology()) if args.cpus else frozenset()
        taken = sorted(cpus - xen.pools.free_cpus())
        if taken:
            raise Failed(f"cpu {taken[0]} already belongs to a pool")
        scheduler = pyxc.Scheduler[args.sched.upper()] if args.sched else None
        pool = xen.pools.create(scheduler, name=args.name, cpus=cpus)
        if not args.json:
            output.lines([str(pool.pool_id)])
        return _report(args, pool)


def _read_settings(args: argparse.Namespace) -> None:
    """KEY=VALUE in xl's syntax: name="fast" sched="credit" cpus=["2","3"] or cpus="2-3", nodes="1"."""
    for setting in args.settings:
        key, equals, value = setting.partition("=")
        words = re.findall(r"[^\s,'\"\[\]]+", value)
        if not equals or key.strip() not in _KEYS or not words:
            raise UsageError(f"{setting!r}: expected name=, sched=, cpus= or nodes= with a value")
        text = ",".join(words)
        if key.strip() == "nodes":
            key, text = "cpus", ",".join(f"nodes:{word}" for word in words)
        if key.strip() == "sched" and text not in _SCHEDULERS:
            raise UsageError(f"{text!r} is not a scheduler: expected one of {', '.join(_SCHEDULERS)}")
        setattr(args, key.strip(), text)


def split(args: argparse.Namespace) -> int:
    """As xl does: pool 0 keeps the cpus of the first node, every other node gets a pool."""
    with opened(args) as xen:
        if len(xen.pools.infos()) > 1:
            raise Failed("there are cpu pools already: the host cannot be split")
        nodes: dict[int, list[int]] = {}
        for at in xen.topology():
            if at.node is not None and at.core is not None:
                nodes.setdefault(at.node, []).append(at.cpu)
        made = xen.pools.split({f"Pool-node{node}": nodes[node] for node in sorted(nodes)})
        if args.json:
            output.report(args.json, pools=[_json(one.info(), one.name) for one in made])
    return 0


def _report(args: argparse.Namespace, pool: pyxc.Pool) -> int:
    """What a change made of a pool: JSON only."""
    if args.json:
        output.report(args.json, **_json(pool.info(), pool.name))
    return 0


def destroy_pool(args: argparse.Namespace) -> int:
    """Its cpus become free first, as with xl; not while it has domains."""
    with opened(args) as xen:
        pool = find_pool(xen, args.pool)
        info, name = pool.info(), pool.name
        pool.destroy(free_cpus=info.nr_domains == 0)
    if args.json:
        output.report(args.json, pool_id=info.pool_id, name=pyxc.readable(name))
    return 0


def rename_pool(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        pool = find_pool(xen, args.pool)
        pool.rename(args.name)
        return _report(args, pool)


def add_cpus(args: argparse.Namespace) -> int:
    return _change_cpus(args, pyxc.Pool.add_cpu)


def remove_cpus(args: argparse.Namespace) -> int:
    return _change_cpus(args, pyxc.Pool.remove_cpu)


def _change_cpus(args: argparse.Namespace, change: Callable[[pyxc.Pool, int], None]) -> int:
    with opened(args) as xen:
        pool = find_pool(xen, args.pool)

        def change_one(cpu: int) -> int:
            change(pool, cpu)
            return cpu

        attempt = Attempt(sorted(cpu_set(args.cpus, xen.topology())), change_one)
        if args.json:
            output.report(args.json, **_json(pool.info(), pool.name), failed=attempt.failures)
        elif attempt.failures and attempt.results:
            output.remark(f"done for cpu {', '.join(map(str, attempt.results))}")
    return attempt.status


def migrate_domain(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        pool, domain = find_pool(xen, args.pool), find(xen, args.domain)
        pool.add_domain(domain)
        return _report(args, pool)
