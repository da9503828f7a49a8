# SPDX-License-Identifier: MIT
"""`pm`: the frequencies and idle states of cpus, by the names of xenpm's commands."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import pyxc
from pyxc.cli import output
from pyxc.cli.arguments import number
from pyxc.cli.parser import Parser, Program
from pyxc.cli.session import Attempt, opened

_VALUES = {
    "set-scaling-maxfreq": ("maximum_khz", "KHZ", "limit how fast cpus may run"),
    "set-scaling-minfreq": ("minimum_khz", "KHZ", "limit how slowly cpus may run"),
    "set-scaling-speed": ("speed_khz", "KHZ", "set the frequency, under the governor userspace"),
    "set-sampling-rate": ("sampling_rate_us", "US", "set the sampling rate of the governor ondemand"),
    "set-up-threshold": ("up_threshold_percent", "PERCENT", "set the threshold of the governor ondemand"),
}
_UNLIMITED = "unlimited"


def add(program: Program) -> None:
    program.add_group("pm", "show and set the frequencies and idle states of cpus, as xenpm does")
    _add(program, "get-cpufreq-para", show_frequency, "show how the frequencies of cpus are controlled")
    governor = _add(program, "set-scaling-governor", change, "let a governor control the frequency of cpus")
    governor.add_argument("value", metavar="GOVERNOR")
    governor.set_defaults(field="governor")
    for name, (field, metavar, purpose) in _VALUES.items():
        parser = _add(program, name, change, purpose)
        parser.add_argument("value", metavar=metavar, type=number)
        parser.set_defaults(field=field)
    for word, value in (("enable", True), ("disable", False)):
        turbo = _add(program, f"{word}-turbo-mode", change, f"{word} frequencies above the nominal ones")
        turbo.set_defaults(field="turbo", value=value)
    deepest = program.add("pm set-max-cstate", limit_idle, "limit how deep cpus may idle")
    deepest.add_argument("state", metavar="STATE", type=_state, help=f"number of a state, or {_UNLIMITED}")


def _add(program: Program, name: str, run: Any, purpose: str) -> Parser:
    parser = program.add(f"pm {name}", run, purpose)
    parser.add_argument("cpu", metavar="CPU", type=number, nargs="?", help="default: all cpus")
    return parser


def _state(text: str) -> int | None:
    return None if text == _UNLIMITED else number(text)


def _cpus(args: argparse.Namespace, xen: pyxc.Xen) -> list[int]:
    return list(range(xen.nr_cpus)) if args.cpu is None else [args.cpu]


def show_frequency(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        shown = Attempt(_cpus(args, xen), lambda cpu: (cpu, xen.pm.frequency(cpu)))
    if args.json:
        cpus = [{"cpu": cpu, **pyxc.asdict(found)} for cpu, found in shown.results]
        output.report(args.json, cpus=cpus, failed=shown.failures)
    else:
        output.lines(line for cpu, found in shown.results for line in _lines(cpu, found))
    return shown.status


def _lines(cpu: int, found: Any) -> Iterator[str]:
    """As xenpm prints them."""
    yield f"cpu id               : {cpu}"
    yield f"affected_cpus        : {_marked(found.affected_cpus, cpu)}"
    yield (
        f"cpuinfo frequency    : max [{found.hardware_maximum_khz}] min [{found.hardware_minimum_khz}] "
        f"cur [{found.current_khz}]"
    )
    yield f"scaling_driver       : {found.driver}"
    yield f"scaling_avail_gov    : {' '.join(found.governors)}"
    yield f"current_governor     : {found.governor}"
    if found.ondemand:
        rates = found.ondemand
        yield "  ondemand specific  :"
        yield (
            f"    sampling_rate    : max [{rates.sampling_rate_max_us}] min [{rates.sampling_rate_min_us}] "
            f"cur [{rates.sampling_rate_us}]"
        )
        yield f"    up_threshold     : {rates.up_threshold_percent}"
    yield f"scaling_avail_freq   : {_marked(found.available_khz, found.current_khz)}"
    limits = f"max [{found.maximum_khz}] min [{found.minimum_khz}]"
    yield f"scaling frequency    : {limits} cur [{found.current_khz}]"
    if found.turbo is not None:
        yield f"turbo mode           : {'enabled' if found.turbo else 'disabled'}"
    yield ""


def _marked(numbers: tuple[int, ...], current: int) -> str:
    return " ".join(f"{'*' if value == current else ''}{value}" for value in numbers)


def change(args: argparse.Namespace) -> int:
    """One thing for all cpus or one of them."""
    values = {args.field: args.value}
    with opened(args) as xen:

        def set_one(cpu: int) -> int:
            xen.pm.set_frequency(cpu, **values)
            return cpu

        done = Attempt(_cpus(args, xen), set_one)
    if args.json:
        output.report(args.json, done=[{"cpu": cpu, **values} for cpu in done.results], failed=done.failures)
    return done.status


def limit_idle(args: argparse.Namespace) -> int:
    with opened(args) as xen:
        xen.pm.set_max_c_state(args.state)
    if args.json:
        output.report(args.json, max_c_state=args.state)
    return 0
