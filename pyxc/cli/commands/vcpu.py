# SPDX-License-Identifier: MIT
"""`vcpu-pin` and `context`: where vcpus may run, and their registers."""

from __future__ import annotations

import argparse
import errno
from collections.abc import Iterable, Mapping

import pyxc
from pyxc import errors
from pyxc.cli import output
from pyxc.cli.arguments import cpu_list, number
from pyxc.cli.parser import Program
from pyxc.cli.session import Attempt, find, opened
from pyxc.cli.status import Failed, UsageError
from pyxc.guest.cpu_lists import cpu_set

_ALL = "all"
_KEEP = "-"
_COLUMNS = 2


def add(program: Program) -> None:
    pin = program.add("vcpu-pin", pin_vcpus, "set where vcpus may run and where they prefer to run")
    pin.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    pin.add_argument("vcpu", metavar="VCPU", help="number of the vcpu, or all")
    pin.add_argument(
        "hard", metavar="HARD", help='where it may run: "0-3,5,^2", all, nodes:0; - for no change'
    )
    pin.add_argument(
        "soft", metavar="SOFT", nargs="?", default=_KEEP, help="where it prefers to run, likewise"
    )
    pin.add_argument(
        "-f", "--force", action="store_true", help="also if the guest's kernel pinned it for a moment"
    )
    context = program.add("context", show_contexts, "show the registers of vcpus")
    context.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    context.add_argument("vcpu", metavar="VCPU", nargs="?", default=_ALL, help="its number (default: all)")


def pin_vcpus(args: argparse.Namespace) -> int:
    if (args.hard, args.soft) == (_KEEP, _KEEP):
        raise UsageError("HARD and SOFT are both -: nothing to change")
    with opened(args) as xen:
        topology = xen.topology()
        hard, soft = (_cpus_or_none(text, topology) for text in (args.hard, args.soft))
        vcpus, nr_cpus = _chosen(find(xen, args.domain), args.vcpu), xen.nr_cpus
        attempt = Attempt(vcpus, lambda vcpu: (vcpu, vcpu.set_affinity(hard, soft, force=args.force)))
    if args.json:
        done = [
            {
                "vcpu": vcpu.index,
                "hard_affinity": cpu_list(now.hard, nr_cpus),
                "soft_affinity": cpu_list(now.soft, nr_cpus),
            }
            for vcpu, now in attempt.results
        ]
        output.report(args.json, vcpus=done, failed=attempt.failures)
    return attempt.status


def _cpus_or_none(text: str, topology: list[pyxc.CpuTopology]) -> frozenset[int] | None:
    return None if text == _KEEP else cpu_set(text, topology)


def _chosen(domain: pyxc.Domain, text: str) -> list[pyxc.Vcpu]:
    """The given vcpu, or all. Failed if there is no such vcpu."""
    count = len(domain.vcpus)
    if text == _ALL:
        return list(domain.vcpus)
    try:
        index = number(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"VCPU: {error}") from error
    if index >= count:
        raise Failed(f"domain {domain.domid} has no vcpu {index}; it has {count}")
    return [domain.vcpu(index)]


def show_contexts(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        domain = find(xen, args.domain)
        vcpus = _chosen(domain, args.vcpu)
        attempt = Attempt(vcpus, lambda vcpu: (vcpu.index, _context_or_none(vcpu)))
    if args.json:
        shown = [_as_json(index, context) for index, context in attempt.results]
        output.report(args.json, domid=domain.domid, vcpus=shown, failed=attempt.failures)
    else:
        for index, context in attempt.results:
            output.lines([f"vcpu {index}:{'' if context else ' never initialised'}"])
            output.lines(_table(context) if context else [])
    return attempt.status


def _context_or_none(vcpu: pyxc.Vcpu) -> pyxc.VcpuContext | None:
    """None for a vcpu that was never initialised."""
    try:
        return vcpu.context()
    except errors.HypercallError as error:
        if error.errno == errno.ENODATA:
            return None
        if error.errno == errno.EINVAL and vcpu.domain.domid == vcpu.domain.xen.own_domid:
            raise Failed("this is the vcpu that asks: its registers are those of pyxc") from error
        raise


def _as_json(index: int, context: pyxc.VcpuContext | None) -> dict[str, object]:
    if context is None:
        return {"vcpu": index, "width_bits": None, "registers": None}
    return {"vcpu": index, "width_bits": context.width, "registers": dict(context)}


def _table(context: pyxc.VcpuContext) -> Iterable[str]:
    """Names and values in columns, in the order of the structure."""
    cells = list(_cells(context, context.width // 4))
    for start in range(0, len(cells), _COLUMNS):
        yield "  ".join(cells[start : start + _COLUMNS])


def _cells(registers: Mapping[str, int], digits: int) -> Iterable[str]:
    width = max(map(len, registers))
    return (f"{name:>{width}} {value:0{digits}x}" for name, value in registers.items())
