# SPDX-License-Identifier: MIT
"""`list` and `claims`: the tables of xl, byte for byte, and the same as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import cpu_text
from pyxc.cli.parser import Program
from pyxc.cli.session import infos, limit_kb, name_of, opened, seconds_of, shown, state_of, style_of

_DOMAINS_HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)"
_VERBOSE_HEADER = "   UUID                            Reason-Code\tSecurity Label"
_CLAIMS_HEADER = "  Claimed"
_STATES = (
    (pyxc.DomainFlag.RUNNING, "r"),
    (pyxc.DomainFlag.BLOCKED, "b"),
    (pyxc.DomainFlag.PAUSED, "p"),
    (pyxc.DomainFlag.SHUTDOWN, "s"),
)
_REASONS = "-rscwS"


def add(program: Program) -> None:
    listing = program.add("list", list_domains, "list domains, as xl does")
    listing.add_argument(
        "domains", metavar="DOMAIN", nargs="*", help="id, name or UUID (default: all domains)"
    )
    listing.add_argument("-v", "--verbose", action="store_true", help="also show UUIDs and shutdown reasons")
    listing.add_argument("-l", "--long", action="store_true", help="print JSON, as --json does")
    listing.add_argument("-Z", "--context", action="store_true", help="also show security labels")
    listing.add_argument("-c", "--cpupool", action="store_true", help="also show cpu pools")
    listing.add_argument("-n", "--numa", action="store_true", help="also show NUMA node affinities")
    claims = program.add("claims", list_claims, "list domains with their claimed memory, as xl does")
    claims.add_argument(
        "domains", metavar="DOMAIN", nargs="*", help="id, name or UUID (default: all domains)"
    )


def list_domains(args: argparse.Namespace) -> int:
    args.json = args.json or ("json" if args.long else "")
    args.context = args.context and not args.verbose  # which shows them, too
    return _list(args, lambda xen: [part(xen) for name, part in _PARTS.items() if getattr(args, name)])


def list_claims(args: argparse.Namespace) -> int:
    return _list(args, lambda xen: [_Part(_CLAIMS_HEADER, _claim_part)])


class _Part(NamedTuple):
    """More columns on the right."""

    header: str
    columns: Callable[[pyxc.DomainInfo], str]


def _list(args: argparse.Namespace, more: Callable[[pyxc.Xen], list[_Part]]) -> int:
    """The domains that are named, or all."""
    with opened(args) as xen:
        attempt = infos(xen, args.domains)
        names = {info.domid: name_of(xen, info) for info in attempt.results}
        if args.json:
            labels = _labels(xen)
            domains = [
                {
                    **_domain_json(info, names[info.domid], labels(info.ssidref)),
                    "unique_id": _number(xen, info),
                }
                for info in attempt.results
            ]
            output.report(args.json, domains=domains, failed=attempt.failures)
            return attempt.status
        parts = more(xen)
        rows = [
            "".join([_domain_row(info, names[info.domid]), *(part.columns(info) for part in parts)])
            for info in attempt.results
        ]
    if rows or not attempt.failures:
        header = "".join([_DOMAINS_HEADER, *(part.header for part in parts)])
        output.table(args.color, header, zip(rows, map(style_of, attempt.results)))
    return attempt.status


def _labels(xen: pyxc.Xen) -> Callable[[int], str | None]:
    """Labels by their numbers; None where there is no security policy."""
    if not xen.flask.present:
        return lambda sid: None
    return cache(xen.flask.context)


def _number(xen: pyxc.Xen, info: pyxc.DomainInfo) -> int | None:
    """Its unique id; None if it has none, or has gone since it was listed."""
    try:
        return pyxc.Domain(xen, info.domid, info.uuid).unique_id
    except (pyxc.DomainNotFound, pyxc.DomainGone):
        return None


def _domain_row(info: pyxc.DomainInfo, name: str | None) -> str:
    states = "".join(letter if info.flags & flag else "-" for flag, letter in _STATES)
    dying, seconds = "d" if info.dying else "-", seconds_of(info.cpu_time_ns)
    memory_mb = (info.memory_kb + (info.outstanding_memory_kb or 0)) // 1024
    return (
        f"{output.padded(shown(name), 40)} {info.domid:5} {memory_mb:5} {info.nr_online_vcpus:5}"
        f"     {states}{_reason_letter(info)}{dying}  {seconds:8.1f}"
    )


def _verbose_part(xen: pyxc.Xen) -> _Part:
    labels = _labels(xen)
    return _Part(
        _VERBOSE_HEADER,
        lambda info: f" {info.uuid} {_reason_code(info)} {labels(info.ssidref) or '-':>16}",
    )


def _label_part(xen: pyxc.Xen) -> _Part:
    labels = _labels(xen)
    return _Part("   Security Label", lambda info: f" {labels(info.ssidref) or '-':>16}")


def _pool_part(xen: pyxc.Xen) -> _Part:
    pools = {pool.pool_id: xen.names.pool_name(pool.pool_id) for pool in xen.pools.infos()}
    return _Part("         Cpupool", lambda info: f"{shown(pools.get(info.cpupool or 0)):>16}")


def _node_part(xen: pyxc.Xen) -> _Part:
    count = xen.physinfo().nr_nodes or 1
    return _Part(" NODE Affinity", lambda info: f" {_nodes(xen, info, count)}")


def _nodes(xen: pyxc.Xen, info: pyxc.DomainInfo, count: int) -> str:
    """As sets of cpus; "-" for a domain that has gone since it was listed, or may not be asked."""
    try:
        return cpu_text(pyxc.Domain(xen, info.domid, info.uuid).node_affinity(), count)
    except (pyxc.DomainNotFound, pyxc.DomainGone, pyxc.PermissionDenied):
        return "-"


_PARTS = {"verbose": _verbose_part, "context": _label_part, "cpupool": _pool_part, "numa": _node_part}
"""What options of list add, in xl's order."""


def _claim_part(info: pyxc.DomainInfo) -> str:
    return f" {(info.outstanding_memory_kb or 0) // 1024:5}"


def _reason_letter(info: pyxc.DomainInfo) -> str:
    reason = info.shutdown_reason or 0
    return _REASONS[reason] if reason < len(_REASONS) else "?"


def _reason_code(info: pyxc.DomainInfo) -> str:
    return f"{'-':>8}" if info.shutdown_reason is None else f"{info.shutdown_reason:8x}"


def _domain_json(info: pyxc.DomainInfo, name: str | None, label: str | None) -> dict[str, Any]:
    return {
        "domid": info.domid,
        "name": name,
        "uuid": str(info.uuid),
        "type": "hvm" if info.is_hvm else "pv",
        "state": state_of(info),
        "flags": [flag.name.lower() for flag in pyxc.DomainFlag if info.flags & flag and flag.name],
        "shutdown_reason": _reason_name(info.shutdown_reason),
        "memory_kb": info.memory_kb,
        "outstanding_memory_kb": info.outstanding_memory_kb,
        "max_memory_kb": limit_kb(info),
        "vcpus": info.nr_vcpus,
        "online_vcpus": info.nr_online_vcpus,
        "cpu_time_ns": info.cpu_time_ns,
        "cpupool": info.cpupool,
        "ssidref": info.ssidref,
        "label": label,
    }


def _reason_name(reason: pyxc.ShutdownReason | int | None) -> str | int | None:
    return reason.name.lower() if isinstance(reason, pyxc.ShutdownReason) else reason
