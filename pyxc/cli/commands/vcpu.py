# SPDX-License-Identifier: MIT
"""`vcpu-pin` and `context`: where vcpus may run, and their registers."""

from __future__ import annotations

import argparse
import errno
from collections.abc import Iterator
from typing import NamedTuple

import pyxc
from pyxc import errors
from pyxc.cli import output
from pyxc.cli.arguments import cpu_list, number
from pyxc.cli.parser import Program
from pyxc.cli.session import Attempt, find, opened
from pyxc.cli.status import Failed, UsageError
from pyxc.cli.symbols import Symbols
from pyxc.guest.cpu_lists import cpu_set

_ALL = "all"
_KEEP = "-"
_COLUMNS = 2
_FIRST = ("rip", "rsp", "rflags", "eip", "esp", "eflags", "pc", "lr", "msr")
_STACK_COLUMNS = 4
_STACK_BYTES = 1024


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
        "-f", "--force", action="store_true", help="also if the guest's kernel has pinned it temporarily"
    )
    context = program.add("context", show_contexts, "show the registers of vcpus")
    context.add_argument("domain", metavar="DOMAIN", help="id, name or UUID")
    context.add_argument("vcpu", metavar="VCPU", nargs="?", default=_ALL, help="its number (default: all)")
    context.add_argument("-s", "--symbols", metavar="FILE", help="the guest kernel's System.map")
    context.add_argument("-S", "--stack", action="store_true", help="also show the stack, and calls in it")


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


class _Seen(NamedTuple):
    """A vcpu at a moment; no context: it was never initialised. `stack` has words from rsp on."""

    vcpu: int
    context: pyxc.VcpuContext | None
    stack: list[int]


def show_contexts(args: argparse.Namespace) -> int:
    symbols = Symbols(args.symbols) if args.symbols else None
    with opened(args) as xen:
        domain = find(xen, args.domain)
        vcpus = _chosen(domain, args.vcpu)
        attempt = Attempt(vcpus, lambda vcpu: _seen(domain, vcpu, args.stack))
    if args.json:
        shown = [_as_json(seen, args.stack, symbols) for seen in attempt.results]
        output.report(args.json, domid=domain.domid, vcpus=shown, failed=attempt.failures)
    else:
        for seen in attempt.results:
            output.lines([f"vcpu {seen.vcpu}:{'' if seen.context else ' never initialised'}"])
            if seen.context:
                output.lines(_table(seen.context, symbols))
            if seen.stack:
                output.lines(_stack_lines(seen, symbols))
    return attempt.status


def _seen(domain: pyxc.Domain, vcpu: pyxc.Vcpu, with_stack: bool) -> _Seen:
    context = _context_or_none(vcpu)
    if not with_stack or context is None:
        return _Seen(vcpu.index, context, [])
    if "rsp" not in context:
        raise Failed("the stack can be shown for 64-bit guests on x86 only")
    data = _stack(domain, vcpu, context["rsp"])
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - 7, 8)]
    return _Seen(vcpu.index, context, words)


def _stack(domain: pyxc.Domain, vcpu: pyxc.Vcpu, address: int) -> bytes:
    """What is mapped from the stack pointer on, up to a hole."""
    with domain.memory.virtual(vcpu) as space:
        size = min(_STACK_BYTES, space.size - address)
        try:
            return space.read(address, size)
        except pyxc.NotMapped as hole:
            return space.read(address, hole.address - address)


def _stack_lines(seen: _Seen, symbols: Symbols | None) -> Iterator[str]:
    """Words, four in a line; then those that are addresses of code, which may be returned to."""
    assert seen.context is not None
    yield "stack:"
    for start in range(0, len(seen.stack), _STACK_COLUMNS):
        words = " ".join(f"{word:016x}" for word in seen.stack[start : start + _STACK_COLUMNS])
        yield f"  {seen.context['rsp'] + 8 * start:016x}: {words}"
    if symbols:
        yield "calls, some of which may be over:"
        yield from (f"  [<{address:016x}>] {name}" for address, name in _calls(seen, symbols))


def _calls(seen: _Seen, symbols: Symbols) -> Iterator[tuple[int, str]]:
    assert seen.context is not None
    for address in (seen.context["rip"], *seen.stack):
        if name := symbols.name(address):
            yield address, name


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


def _as_json(seen: _Seen, with_stack: bool, symbols: Symbols | None) -> dict[str, object]:
    context = seen.context
    fields: dict[str, object] = {
        "vcpu": seen.vcpu,
        "width_bits": context.width if context else None,
        "registers": dict(context) if context else None,
    }
    if with_stack:
        fields["stack"] = seen.stack
    if symbols:
        calls = _calls(seen, symbols) if context and "rip" in context else ()
        fields["calls"] = [{"address": address, "symbol": name} for address, name in calls]
    return fields


def _table(context: pyxc.VcpuContext, symbols: Symbols | None) -> Iterator[str]:
    """Names and values in columns: first where it is, then the others in the order of the structure."""
    width = max(map(len, context))
    digits = context.width // 4
    first = [name for name in _FIRST if name in context]
    names = [*first, *(name for name in context if name not in first)]
    cells = [f"{name:>{width}} {context[name]:0{digits}x}" for name in names]
    symbol = symbols.name(context["rip"]) if symbols and "rip" in context else None
    if symbol:
        yield f"{cells.pop(0)}  {symbol}"
    for start in range(0, len(cells), _COLUMNS):
        yield "  ".join(cells[start : start + _COLUMNS])
