# SPDX-License-Identifier: MIT
"""What the hypervisor prints at its boot and when a debug key is pressed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from pyxc.sim.version import COMMAND_LINE

if TYPE_CHECKING:
    from pyxc.sim.hypervisor import Hypervisor


def boot_log(xen: Hypervisor) -> str:
    profile, machine = xen.profile, xen.machine
    lines = (
        f"Xen version {profile.version} (pyxc@sim.invalid) (simulated, no compiler) {profile.built}",
        f"Command line: {COMMAND_LINE}",
        f"System RAM: {machine.frames >> 8}MB ({machine.frames << 2}kB)",
        "Domain heap initialised",
        "Using scheduler: SMP Credit Scheduler rev2 (credit2)",
        f"Detected {xen.cpu_khz / 1000:.3f} MHz processor.",
        f"Brought up {xen.pcpus} CPUs",
        "HVM: SVM enabled",
        "HVM: Hardware Assisted Paging (HAP) detected",
        "*** Building a PV Dom0 ***",
        f" Dom0 has maximum {len(xen.domains[0].vcpus)} VCPUs",
        f" Dom0 alloc.: {xen.domains[0].tot_pages} pages",
        "Scrubbing Free RAM in background.",
        "Std. Loglevel: Errors and warnings",
        "*** Serial input to DOM0 (type 'CTRL-a' three times to switch input)",
    )
    return "".join(f"(XEN) {line}\n" for line in lines)


def _help(xen: Hypervisor) -> Iterator[str]:
    yield "'h' pressed -> showing installed handlers"
    for key, (description, _) in sorted(_KEYS.items()):
        yield f" key '{key}' (ascii '{ord(key):02x}') => {description}"


def _domains(xen: Hypervisor) -> Iterator[str]:
    yield f"'q' pressed -> dumping domain info (now = {xen.clock_ns})"
    for domain in xen.sorted_domains():
        yield f"General information for domain {domain.domid}:"
        yield f"    nr_pages={domain.tot_pages} max_pages={domain.max_pages} pauses={domain.pauses}"
        for vcpu in domain.live_vcpus:
            state = vcpu.state.name.lower()
            yield f"    VCPU{vcpu.index}: CPU{vcpu.pcpu} {state} hard={vcpu.hard:x} soft={vcpu.soft:x}"


def _run_queues(xen: Hypervisor) -> Iterator[str]:
    yield "'r' pressed -> dumping run queues"
    for pcpu in range(xen.pcpus):
        here = [vcpu for vcpu in xen.vcpus() if vcpu.running and vcpu.pcpu == pcpu]
        names = ", ".join(f"d{vcpu.domain.domid}v{vcpu.index}" for vcpu in here)
        yield f"CPU[{pcpu:02d}] current={names or 'idle'}"


def _memory(xen: Hypervisor) -> Iterator[str]:
    yield "'m' pressed -> memory info"
    yield f"Physical memory: {xen.machine.frames} pages, {xen.machine.heap.free} free"


_KEYS: dict[str, tuple[str, Callable[[Hypervisor], Iterable[str]]]] = {
    "h": ("show this message", _help),
    "m": ("memory info", _memory),
    "q": ("dump domain (and guest debug) info", _domains),
    "r": ("dump run queues", _run_queues),
}


def press(xen: Hypervisor, key: str) -> None:
    """Append what a key prints to the console ring; keys without a handler print nothing."""
    if key in _KEYS:
        xen.console.print("".join(f"(XEN) {line}\n" for line in _KEYS[key][1](xen)))
