# SPDX-License-Identifier: MIT
"""What the hypervisor prints at its boot and when a debug key is pressed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pyxc.sim.model.build import COMMAND_LINE, build_id_of
from pyxc.sim.model.console import RING_SIZE
from pyxc.sim.model.host import Host

_SCHEDULERS = ("SMP credit scheduler (credit)", "SMP credit scheduler rev2 (credit2)")


def boot_log(xen: Host) -> str:
    """The messages of a boot, in our own words."""
    lines = _boot_of_2006(xen) if xen.profile.dom0_op else _boot(xen)
    return _text(lines)


def _boot_of_2006(xen: Host) -> list[str]:
    profile, machine, dom0 = xen.profile, xen.machine, xen.domains[0]
    return [
        f"Xen version {profile.version} (pyxc@sim.invalid) (simulated, no compiler) {profile.built}",
        f"Latest ChangeSet: {profile.changeset}",
        f"Machine: {profile.arch}, {profile.byteorder}-endian",
        f"System RAM: {machine.frames >> 8}MB ({machine.frames << 2}kB)",
        "Using scheduler: Simple EDF Scheduler (sedf)",
        f"Detected {xen.cpu_khz / 1000:.3f} MHz processor.",
        *(f"Brought up CPU{pcpu}" for pcpu in range(xen.pcpus)),
        "*** LOADING DOMAIN 0 ***",
        f" dom0 has {dom0.tot_pages} pages and at most {len(dom0.vcpus)} vcpus",
        "*** Serial input -> DOM0 (type 'CTRL-a' three times to switch input to Xen).",
    ]


def _boot(xen: Host) -> list[str]:
    profile, machine, dom0 = xen.profile, xen.machine, xen.domains[0]
    return [
        f"Xen version {profile.version} (pyxc@sim.invalid) (simulated, no compiler) {profile.built}",
        "Latest ChangeSet: ",
        *([f"build-id: {build_id_of(profile.version).hex()}"] if profile.since(4, 7) else []),
        "Bootloader: simulated",
        f"Command line: {COMMAND_LINE}",
        "Xen image load base address: 0",
        "Firmware memory map:",
        *_memory_map(machine.frames),
        f"System RAM: {machine.frames >> 8}MB ({machine.frames << 2}kB)",
        "No NUMA configuration found",
        f"One node of pages 0 to {machine.frames - 1}",
        "Domain heap initialised",
        *(f"Local APIC {pcpu}: cpu {pcpu}" for pcpu in range(xen.pcpus)),
        "I/O APIC 0: 24 interrupts from GSI 0",
        *(f"CPU{pcpu}: simulated processor, nested paging, stepping 00" for pcpu in range(xen.pcpus)),
        "Speculative mitigation: none is needed where nothing is executed",
        f"Using scheduler: {_SCHEDULERS[profile.since(4, 12)]}",
        f"Detected {xen.cpu_khz / 1000:.3f} MHz processor.",
        "Platform timer appears to be exact",
        "Allocated console ring of 16 KiB.",
        "HVM: SVM enabled",
        "HVM: hardware assisted paging (HAP) detected, page sizes 4kB, 2MB, 1GB",
        *(f"Brought up CPU{pcpu}" for pcpu in range(xen.pcpus)),
        "*** Building a PV Dom0 ***",
        *(f" dom0 vcpu{vcpu.index} starts on CPU{vcpu.pcpu}" for vcpu in dom0.live_vcpus),
        f" dom0 has {dom0.tot_pages} pages and at most {len(dom0.vcpus)} vcpus",
        f" dom0's shared info is frame {dom0.shared_info:#x}",
        f" dom0's grant table has at most {dom0.max_grant_frames} frames",
        f"{machine.heap.free} pages are free",
        *(f"Scrubbing free RAM in background: CPU{pcpu}" for pcpu in range(xen.pcpus)),
        "Log level of the hypervisor: errors and warnings",
        "Log level of guests: nothing (rate limited: errors and warnings)",
        "*** Serial input to DOM0 (type 'CTRL-a' three times to switch input) ***",
        "Freed the memory of the initialisation",
    ]


def _memory_map(frames: int) -> Iterator[str]:
    ranges = ((0, 0x9F, "usable"), (0x9F, 0xA0, "reserved"), (0xF0, 0x100, "reserved"))
    for start, stop, kind in (*ranges, (0x100, frames, "usable"), (frames, 0x80000, "reserved")):
        yield f" [{start << 12:016x}, {(stop << 12) - 1:016x}] {kind}"


def _help(xen: Host) -> Iterator[str]:
    yield "'h' pressed -> showing installed handlers"
    for key, (description, _) in sorted(_KEYS.items()):
        yield f" key '{key}' (ascii '{ord(key):02x}') => {description}"


def _domains(xen: Host) -> Iterator[str]:
    yield f"'q' pressed -> dumping domain info (now = {xen.clock_ns})"
    for domain in xen.sorted_domains():
        yield f"General information for domain {domain.domid}:"
        yield f"    nr_pages={domain.tot_pages} max_pages={domain.max_pages} pauses={domain.pauses}"
        for vcpu in domain.live_vcpus:
            state = vcpu.state.name.lower()
            yield f"    VCPU{vcpu.index}: CPU{vcpu.pcpu} {state} hard={vcpu.hard:x} soft={vcpu.soft:x}"


def _run_queues(xen: Host) -> Iterator[str]:
    yield "'r' pressed -> dumping run queues"
    for pcpu in range(xen.pcpus):
        here = [vcpu for vcpu in xen.vcpus() if vcpu.running and vcpu.pcpu == pcpu]
        names = ", ".join(f"d{vcpu.domain.domid}v{vcpu.index}" for vcpu in here)
        yield f"CPU[{pcpu:02d}] current={names or 'idle'}"


def _memory(xen: Host) -> Iterator[str]:
    yield "'m' pressed -> memory info"
    yield f"Physical memory: {xen.machine.frames} pages, {xen.machine.heap.free} free"


_KEYS: dict[str, tuple[str, Callable[[Host], Iterable[str]]]] = {
    "h": ("show this message", _help),
    "m": ("memory info", _memory),
    "q": ("dump domain (and guest debug) info", _domains),
    "r": ("dump run queues", _run_queues),
}


def press(xen: Host, keys: bytes) -> None:
    """Append what keys print to the console ring; those without a handler print nothing.

    Nothing happens between them, so that each prints the same whenever it is pressed. Of many only the last
    fill the ring: what the others print is just counted.
    """
    texts = {ord(key): _text(handler(xen)) for key, (_, handler) in _KEYS.items()}
    pressed = keys.translate(None, bytes(set(range(256)) - set(texts)))
    lost, size = len(pressed), 0
    while lost and size < RING_SIZE:
        lost -= 1
        size += len(texts[pressed[lost]])
    xen.console.advance(sum(pressed.count(key, 0, lost) * len(text) for key, text in texts.items()))
    xen.console.print("".join(texts[key] for key in pressed[lost:]))


def _text(lines: Iterable[str]) -> str:
    return "".join(f"(XEN) {line}\n" for line in lines)
