# SPDX-License-Identifier: MIT
"""`sched-credit`, `sched-credit2`, `sched-rtds`: the share of the cpus that domains have, as xl shows it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import number, scheduler_name
from pyxc.cli.commands.pool import find_pool
from pyxc.cli.parser import Parser, Program
from pyxc.cli.session import find, opened, shown
from pyxc.cli.status import Failed, UsageError

_ALL = "all"
_EXTRATIME = {None: "-", False: "no", True: "yes"}


class _Table(NamedTuple):
    """How xl shows what a scheduler knows: headers and columns of domains and vcpus, the line of a pool."""

    scheduler: pyxc.Scheduler
    header: str
    row: str
    pool: str


_CREDIT = _Table(
    pyxc.Scheduler.CREDIT,
    f"{'Weight':>6} {'Cap':>4}",
    "{weight:6} {cap:4}",
    "tslice={tslice_ms}ms ratelimit={ratelimit_us}us migration-delay={vcpu_migr_delay_us}us",
)
_CREDIT2 = _CREDIT._replace(scheduler=pyxc.Scheduler.CREDIT2, pool="ratelimit={ratelimit_us}us")
_RTDS = _Table(
    pyxc.Scheduler.RTDS,
    f"{'Period':>9} {'Budget':>9} {'Extratime':>10}",
    "{period_us:9} {budget_us:9} {extratime:>10}",
    "sched=RTDS",
)


def add(program: Program) -> None:
    command = _add_shares(program, "credit", sched_credit)
    command.add_argument("-t", "--tslice_ms", type=number, help="with -s: length of a time slice")
    command.add_argument("-m", "--migration_delay_us", type=number,
                         help="with -s: how long a cache counts as hot (us)")  # fmt: skip
    _add_shares(program, "credit2", sched_credit2)
    command = program.add("sched-rtds", sched_rtds, "show or set rtds parameters of vcpus, as xl does")
    _add_domain(command)
    command.add_argument("-v", "--vcpuid", metavar="VCPU", action="append", default=[],
                         help="number of a vcpu, or all; can be repeated")  # fmt: skip
    command.add_argument("-p", "--period", type=number, help="microseconds")
    command.add_argument("-b", "--budget", type=number, help="microseconds in each period")
    command.add_argument("-e", "--extratime", choices=("0", "1"), help="whether it may use idle time")
    command.add_argument("-c", "--cpupool", metavar="CPUPOOL", help="list only this pool (id or name)")


def _add_shares(program: Program, name: str, run: Any) -> Parser:
    command = program.add(f"sched-{name}", run, f"show or set {name} parameters of domains, as xl does")
    _add_domain(command)
    command.add_argument("-w", "--weight", type=number, help="share relative to other domains; usually 256")
    command.add_argument("-c", "--cap", type=number, help="most cpu time, in percent of a cpu; 0: no limit")
    command.add_argument("-p", "--cpupool", metavar="CPUPOOL", help="list only this pool (id or name)")
    command.add_argument(
        "-s", "--schedparam", action="store_true", help="parameters of the scheduler in a pool"
    )
    command.add_argument("-r", "--ratelimit_us", type=number, help="with -s: shortest run of a vcpu (us)")
    return command


def _add_domain(command: Parser) -> None:
    command.add_argument("-d", "--domain", metavar="DOMAIN", help="id, name or UUID (default: all domains)")


def sched_credit(args: argparse.Namespace) -> int:
    of_pool = {
        "tslice_ms": args.tslice_ms,
        "ratelimit_us": args.ratelimit_us,
        "vcpu_migr_delay_us": args.migration_delay_us,
    }
    return _shares(args, _CREDIT, of_pool)


def sched_credit2(args: argparse.Namespace) -> int:
    return _shares(args, _CREDIT2, {"ratelimit_us": args.ratelimit_us})


def _shares(args: argparse.Namespace, table: _Table, of_pool: Mapping[str, int | None]) -> int:
    of_domain = {"weight": args.weight, "cap": args.cap}
    if (args.cpupool or args.schedparam) and (args.domain or _any(of_domain)):
        raise UsageError("--cpupool and --schedparam cannot be used with options of domains")
    if _any(of_pool) and not args.schedparam:
        raise UsageError("-s (--schedparam) is missing")
    with opened(args) as xen:
        if not args.schedparam:
            return _domains(args, xen, table, of_domain)
        pool = find_pool(xen, args.cpupool or "0")
        if _any(of_pool):
            pool.set_scheduling(**of_pool)
        return _report(args, [] if _any(of_pool) else [_pool_line(pool, table)], pools=[pool])


def _any(options: Mapping[str, object]) -> bool:
    """Whether one of them is given."""
    return any(value is not None for value in options.values())


def _domains(args: argparse.Namespace, xen: pyxc.Xen, table: _Table, wanted: Mapping[str, Any]) -> int:
    """Set what is given; else show a domain, or every pool under this scheduler with its domains."""
    if args.domain is None:
        if _any(wanted):
            raise UsageError("-d DOMAIN is missing")
        return _list(args, xen, table)
    domain = find(xen, args.domain)
    if domain.scheduler() is not table.scheduler:
        raise Failed(f"domain {domain.domid} is not under {table.scheduler.name.lower()}{_instead(domain)}")
    if _any(wanted):
        domain.set_scheduling(**wanted)
        return _report(args, [], domains=[domain])
    return _report(args, [_header(table), _domain_row(domain, table)], domains=[domain])


def _list(args: argparse.Namespace, xen: pyxc.Xen, table: _Table) -> int:
    """Pools that the options name and their domains, as xl: those under another scheduler are left out."""
    only = None if args.cpupool is None else find_pool(xen, args.cpupool).pool_id
    pools = [
        xen.pools[info.pool_id]
        for info in xen.pools.infos()
        if info.scheduler is table.scheduler and only in (None, info.pool_id)
    ]
    infos = xen.domains.infos()
    lines, domains = list[str](), list[pyxc.Domain]()
    for pool in pools:
        residents = [xen.domains[info.domid] for info in infos if info.cpupool == pool.pool_id]
        lines += [_pool_line(pool, table), _header(table)]
        lines += [_domain_row(domain, table) for domain in residents]
        domains += residents
    if not pools and not args.json:
        others = {scheduler_name(info.scheduler) for info in xen.pools.infos()}
        output.remark(
            f"no cpu pool is under {table.scheduler.name.lower()}: "
            f"they are under {', '.join(sorted(others))} (see pyxc cpupool-list)"
        )
    return _report(args, lines, pools=pools, domains=domains)


def _header(table: _Table) -> str:
    return f"{'Name':<33} {'ID':>4} {table.header}"


def _domain_row(domain: pyxc.Domain, table: _Table) -> str:
    return f"{shown(domain.name):<33} {domain.domid:4} {_columns(domain.scheduling(), table.row)}"


def _pool_line(pool: pyxc.Pool, table: _Table) -> str:
    params = pool.scheduling()
    unknown = params is None and table.scheduler is not pyxc.Scheduler.RTDS
    told = "[sched params unavailable]" if unknown else _columns(params, table.pool)
    return f"Cpupool {shown(pool.name)}: {told}"


def _columns(params: Any, row: str) -> str:
    """A record in the form of a row; what is not known counts as none, as in xl."""
    fields = _json(params)
    extratime = {"extratime": _EXTRATIME[fields["extratime"]]} if "extratime" in fields else {}
    return row.format(**{name: 0 if value is None else value for name, value in fields.items()} | extratime)


def _json(params: Any) -> dict[str, Any]:
    return {} if params is None else dict(params._asdict())


def _named_json(one: pyxc.Pool | pyxc.Domain) -> dict[str, Any]:
    return {"name": pyxc.readable(one.name), **_json(one.scheduling())}


def _report(
    args: argparse.Namespace,
    lines: Iterable[str],
    pools: Iterable[pyxc.Pool] = (),
    domains: Iterable[pyxc.Domain] = (),
) -> int:
    """Lines of text, or the same as JSON. A change is silent in text."""
    if args.json:
        output.report(
            args.json,
            pools=[{"pool_id": one.pool_id, **_named_json(one)} for one in pools],
            domains=[{"domid": one.domid, **_named_json(one)} for one in domains],
        )
    else:
        output.lines(lines)
    return 0


def sched_rtds(args: argparse.Namespace) -> int:
    wanted = {
        "period_us": args.period,
        "budget_us": args.budget,
        "extratime": None if args.extratime is None else args.extratime == "1",
    }
    if args.cpupool and (args.domain or _any(wanted)):
        raise UsageError("--cpupool cannot be used with options of domains")
    with opened(args) as xen:
        if not args.vcpuid:
            return _domains(args, xen, _RTDS, wanted)
        if args.domain is None:
            raise UsageError("-d DOMAIN is missing")
        return _vcpus(args, find(xen, args.domain), wanted)


def _vcpus(args: argparse.Namespace, domain: pyxc.Domain, wanted: Mapping[str, Any]) -> int:
    """Set what is given, or show the vcpus that are named."""
    indices = _indices(domain, args.vcpuid)
    if _any(wanted):
        for index in indices:
            domain.vcpu(index).set_scheduling(**wanted)
    params = domain.vcpus.scheduling()
    if params is None:
        raise Failed(f"domain {domain.domid} is not under rtds{_instead(domain)}")
    if args.json:
        vcpus = [{"domid": domain.domid, "vcpu": index, **_json(params[index])} for index in indices]
        output.report(args.json, vcpus=vcpus)
    elif not _any(wanted):
        output.lines([f"{'Name':<33} {'ID':>4} {'VCPU':>4} {_RTDS.header}"])
        which = f"{shown(domain.name):<33} {domain.domid:4}"
        output.lines(f"{which} {index:4} {_columns(params[index], _RTDS.row)}" for index in indices)
    return 0


def _indices(domain: pyxc.Domain, texts: list[str]) -> list[int]:
    count = len(domain.vcpus)
    if _ALL in texts:
        return list(range(count))
    try:
        indices = [number(text) for text in texts]
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--vcpuid: {error}") from error
    missing = [index for index in indices if index >= count]
    if missing:
        raise Failed(f"domain {domain.domid} has no vcpu {missing[0]}; it has {count}")
    return indices


def _instead(domain: pyxc.Domain) -> str:
    """The scheduler that a domain is under, and its command where there is one."""
    found = domain.scheduler()
    if not isinstance(found, pyxc.Scheduler):
        return ""
    name = found.name.lower()
    command = f": see pyxc sched-{name}" if name in ("credit", "credit2", "rtds") else ""
    return f", but under {name}{command}"
