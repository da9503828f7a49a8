# SPDX-License-Identifier: MIT
"""`demo`: a first visit, on simulated hypervisors.

The steps are ordinary functions of one statement. Of each its own source is shown, and then what it answered.
"""

from __future__ import annotations

import argparse
import inspect
import pprint
import sys
import textwrap
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pyxc
from pyxc import sim
from pyxc.cli import output
from pyxc.cli.parser import Program
from pyxc.cli.status import UsageError
from pyxc.guest.config import GuestConfig
from pyxc.guest.launch import launch
from pyxc.opening import SIMULATED

_TARGETS = ("sim:xen-4.22", "sim:xen-4.14", "sim:ppc64")
_WIDTH = 100
_BUILDS = (4, 10)


def add(program: Program) -> None:
    program.add("demo", run, "show what pyxc can do, on simulated hypervisors")


def _interface(xen: pyxc.Xen) -> Any:
    """pyxc asked it which versions of Xen's interface it speaks; every structure is laid out for these."""
    return xen.interface


def _domains(xen: pyxc.Xen) -> Any:
    """The domains: id, name, KiB of memory, state."""
    return [(d.domid, d.name, d.info().memory_kb, d.info().flags.name) for d in xen.domains.values()]


def _pause(xen: pyxc.Xen) -> Any:
    """Take a domain off the cpus ..."""
    return xen.domains["web1"].pause()


def _paused(xen: pyxc.Xen) -> Any:
    """... and it is."""
    return xen.domains["web1"].info().paused


def _registers(xen: pyxc.Xen) -> Any:
    """Registers of its first vcpu."""
    return {name: hex(xen.domains["web1"].vcpu(0).context()[name]) for name in ("rip", "rsp", "cr3")}


def _powerpc_registers(xen: pyxc.Xen) -> Any:
    """Registers of its first vcpu: a PowerPC's."""
    return {name: hex(xen.domains["web1"].vcpu(0).context()[name]) for name in ("pc", "lr", "msr")}


def _source(xen: pyxc.Xen) -> Any:
    """The frames that it owns, from the best source that this hypervisor has ..."""
    return xen.domains["web1"].memory.frames()


def _frames(xen: pyxc.Xen) -> Any:
    """... the first of them."""
    return [hex(frame) for frame in xen.domains["web1"].memory.frames().frames[:6]]


def _guest(xen: Any) -> Any:
    """What the kernel of a simulated guest does: it prints, and obeys requests."""
    return xen.link.hypervisor.when_started(lambda guest: (guest.print("shop is up"), guest.obey()))


def _launch(xen: pyxc.Xen) -> Any:
    """Build a guest with a kernel, and make it known to xenstore; GuestConfig.read() reads xl's files."""
    return launch(xen, GuestConfig("shop", sim.kernel("pvh"), uuid=UUID(int=7), memory_kb=16 << 10)).kind


def _start(xen: pyxc.Xen) -> Any:
    """Start it ..."""
    return xen.domains["shop"].unpause()


def _console(xen: pyxc.Xen) -> Any:
    """... and read its console."""
    return xen.domains["shop"].console.last()


def _ask(xen: pyxc.Xen) -> Any:
    """Ask it to power off ..."""
    return xen.domains["shop"].ask.poweroff(timeout=10)


def _ended(xen: pyxc.Xen) -> Any:
    """... and it does."""
    return xen.domains["shop"].wait_shut_down(timeout=10)


_OF_A_GUEST = (_guest, _launch, _start, _console, _ask, _ended)
_STEPS = {
    "x86_64": (_interface, _domains, _pause, _paused, _registers, _source, _frames),
    "ppc64": (_interface, _domains, _pause, _paused, _powerpc_registers, _source, _frames),
}


def run(args: argparse.Namespace) -> int:
    targets = (args.target,) if args.target else _TARGETS
    if not all(target.startswith(SIMULATED) for target in targets):
        raise UsageError("the demo pauses a domain: it runs on simulated hypervisors only")
    if args.record:
        raise UsageError("the demo cannot be recorded: it uses two hypervisors")
    stories = []
    for target in targets:
        with pyxc.open(target) as xen:
            steps = [_take(step, xen) for step in (*_STEPS[xen.interface.arch], *_of_a_guest(xen))]
        stories.append({"target": target, "steps": steps})
        if not args.json:
            _print(target, steps)
    if args.json:
        output.report(args.json, demo=stories)
    else:
        output.lines(_next(f"{sys.executable} -m pyxc"))
    return 0


def _of_a_guest(xen: pyxc.Xen) -> tuple[Callable[[pyxc.Xen], Any], ...]:
    """Where guests are built, and where a link leads to the simulated host itself, whose guest acts."""
    builds = xen.interface.arch == "x86_64" and xen.interface.xen >= _BUILDS
    return _OF_A_GUEST if builds and hasattr(xen.link, "hypervisor") else ()


def _next(program: str) -> list[str]:
    """What to try after the tour."""
    return [
        "# Next, on a simulated host and without root; docs/tutorial.md has 15 tasks for half an hour.",
        f"$ {program} --target sim:xen-4.17 list",
        f"$ {program} help",
        f"$ {sys.executable} -i -c 'import pyxc; xen = pyxc.open(\"sim:xen-4.17\")'",
    ]


def _take(step: Callable[[pyxc.Xen], Any], xen: pyxc.Xen) -> dict[str, str]:
    """Do a step: its purpose, its source, its result."""
    answer = step(xen)
    return {
        "about": inspect.getdoc(step) or "",
        "code": _statement(step),
        "output": "" if answer is None else pprint.pformat(answer, width=_WIDTH, sort_dicts=False),
    }


def _statement(step: Callable[[pyxc.Xen], Any]) -> str:
    """The last line of a step as it would be typed."""
    line = inspect.getsource(step).rstrip().rpartition("\n")[2]
    return textwrap.dedent(line).removeprefix("return ")


def _print(target: str, steps: list[dict[str, str]]) -> None:
    output.lines(["# Open a hypervisor: this one is simulated; pyxc.open() opens the real one."])
    output.lines([f'>>> xen = pyxc.open("{target}")', ""])
    for step in steps:
        output.lines([f"# {step['about']}", f">>> {step['code']}", *step["output"].splitlines(), ""])
