# SPDX-License-Identifier: MIT
"""`vcpu-list`: the table of xl, byte for byte, and the same as JSON."""

from __future__ import annotations

import argparse
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import cpu_list, cpu_text
from pyxc.cli.parser import Program
from pyxc.cli.session import infos, name_of, opened, seconds_of, shown

_HEADER = "Name                                ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)"


def add(program: Program) -> None:
    listing = program.add("vcpu-list", list_vcpus, "list vcpus with their affinities, as xl does")
    listing.add_argument(
        "domains", metavar="DOMAIN", nargs="*", help="id, name or UUID (default: all domains)"
    )


def list_vcpus(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        attempt = infos(xen, args.domains)
        found = attempt.results
        affinities, vcpus = xen.affinities(found), xen.vcpus(found)
        names = {info.domid: name_of(xen, info) for info in found}
        rows = [(vcpu, names[vcpu.domid], affinities[vcpu[:2]]) for vcpu in vcpus if vcpu[:2] in affinities]
        nr_cpus = xen.nr_cpus
    if args.json:
        output.report(args.json, vcpus=[_vcpu_json(*row, nr_cpus) for row in rows], failed=attempt.failures)
    elif found or not attempt.failures:
        output.table(args.color, _HEADER, ((_vcpu_row(*row, nr_cpus), "") for row in rows))
    return attempt.status


def _vcpu_row(vcpu: pyxc.VcpuInfo, name: str | None, affinity: pyxc.Affinity, nr_cpus: int) -> str:
    if vcpu.online:
        place = f"{vcpu.cpu:5} {'r' if vcpu.running else '-':>3}{'b' if vcpu.blocked else '-'}-"
    else:
        place = f"{'-':>5} {'-':>3}-p"
    hard, soft = (cpu_text(cpus, nr_cpus) for cpus in affinity)
    which = f"{output.padded(shown(name), 32)} {vcpu.domid:5} {vcpu.vcpu:5}"
    return f"{which}{place} {seconds_of(vcpu.cpu_time_ns):9.1f}  {hard} / {soft}"


def _vcpu_json(
    vcpu: pyxc.VcpuInfo, name: str | None, affinity: pyxc.Affinity, nr_cpus: int
) -> dict[str, Any]:
    return {
        "domid": vcpu.domid,
        "name": name,
        "vcpu": vcpu.vcpu,
        "online": vcpu.online,
        "blocked": vcpu.blocked,
        "running": vcpu.running,
        "cpu": vcpu.cpu if vcpu.online else None,
        "cpu_time_ns": vcpu.cpu_time_ns,
        "hard_affinity": cpu_list(affinity.hard, nr_cpus),
        "soft_affinity": cpu_list(affinity.soft, nr_cpus),
    }
