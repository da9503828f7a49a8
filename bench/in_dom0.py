# SPDX-License-Identifier: MIT
"""Measures all sides in dom0, in turn: python3 -m bench.in_dom0 PEER OUTPUT PROCESSES.

PEER is the program built from peer.c. OUTPUT becomes a JSON list of objects with "operation", "pyxc_us",
"xc_us", "c_us": the medians of several rounds in microseconds, null where a side has no such call. PROCESSES
becomes an object of medians in seconds, by what was started: "python3 -c pass", "pyxc list", "xl list".
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyxc
from bench import guest
from pyxc.abi import version

XC = "/usr/lib/xen-4.17/lib/python"
TOOLS = "/usr/lib/xen-4.17/bin"
PROCESS_ROUNDS = 7
ROUNDS = 21
# How long one side of a round takes. Many short rounds: a busy host takes the emulated cpu away now and then.
ROUND_S = 0.05
VCPUS = 64
PAGES = 65536
CHUNK = 1 << 20
LIBXL_MOST = 1024

Timer = Callable[[int], float]
"""Repeats the operation a number of times; returns the duration in seconds."""


class Operation(NamedTuple):
    """A measured operation, and how each side performs it."""

    name: str
    pyxc: Timer
    c: Timer
    xc: Timer | None = None


class Peer:
    """The C side: a process that measures on demand."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def timer(self, operation: str, domid: int = 0, count: int = 0) -> Timer:
        """A timer of one of its operations, see peer.c."""
        return lambda times: self._measure(f"{operation} {times} {domid} {count}\n")

    def _measure(self, request: str) -> float:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(request)
        self._process.stdin.flush()
        return int(self._process.stdout.readline()) / 1e9

    def close(self) -> None:
        self._process.communicate()


def calls(function: Callable[[], object]) -> Timer:
    """The timer of a function."""

    def timer(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            function()
        return time.perf_counter() - start

    return timer


def measure(operation: Operation) -> dict[str, str | float | None]:
    """Warm up, then rounds in which each side has its turn; the medians."""
    sides = {"pyxc_us": operation.pyxc, "xc_us": operation.xc, "c_us": operation.c}
    timers = {side: timer for side, timer in sides.items() if timer}
    times = {side: _times(timer) for side, timer in timers.items()}
    rounds: dict[str, list[float]] = {side: [] for side in timers}
    for _ in range(ROUNDS):
        for side, timer in timers.items():
            rounds[side].append(timer(times[side]) / times[side])
    medians = {side: round(statistics.median(found) * 1e6, 2) for side, found in rounds.items()}
    return {"operation": operation.name, **{side: medians.get(side) for side in sides}}


def _times(timer: Timer) -> int:
    """Warm up; returns the repetitions in a round. The emulated clock can stand still for a moment."""
    timer(1)
    times = 1
    while (elapsed := timer(times)) < ROUND_S / 4:
        times *= 2
    return max(1, round(times * ROUND_S / elapsed))


def single_calls(xen: pyxc.Xen, xc: Any, peer: Peer) -> Iterator[Operation]:
    """Operations that are one hypercall, and the host's description, which is eight."""
    dom0 = xen.domains[0]
    yield Operation("xen_version", calls(lambda: xen.call(version.VERSION).result), peer.timer("xen_version"))
    yield Operation(
        "xen information", calls(lambda: describe(xen)), peer.timer("xen_info"), calls(xc.xeninfo)
    )
    yield Operation(
        "domain info", calls(dom0.info), peer.timer("domain_info"), calls(lambda: xc.domain_getinfo(0, 1))
    )
    yield Operation("physinfo", calls(xen.physinfo), peer.timer("physinfo"), calls(xc.physinfo))
    opener = type(xc)
    yield Operation("open a handle", calls(lambda: pyxc.open().close()), peer.timer("open"), calls(opener))
    yield Operation(
        "open, domain info, close",
        calls(open_and_ask),
        peer.timer("open_and_ask"),
        calls(lambda: opener().domain_getinfo(0, 1)),
    )


def open_and_ask() -> None:
    """What a script does that opens a handle for each question."""
    with pyxc.open() as xen:
        xen.domains[0].info()


def describe(xen: pyxc.Xen) -> None:
    """Everything that xeninfo() returns; pyxc would cache it."""
    for name in ("version", "capabilities", "commandline", "virt_start", "build"):
        xen.__dict__.pop(name, None)
    xen.read_facts()


def lists(xen: pyxc.Xen, xc: Any, peer: Peer) -> Iterator[Operation]:
    """Lists of all domains, as many as there are at the moment."""
    count = len(xen.domains)
    name = f"list of {count} domain{'s' * (count > 1)}"
    mine = calls(xen.domains.infos)
    yield Operation(name, mine, peer.timer("domain_list", 0, LIBXL_MOST), calls(xc.domain_getinfo))
    yield Operation(f"{name}, C with max {count + 1}", mine, peer.timer("domain_list", 0, count + 1))


def growing_lists(xen: pyxc.Xen, xc: Any, peer: Peer) -> Iterator[Operation]:
    """Lists of 1, 51 and 501 domains."""
    domains: list[pyxc.Domain] = []
    for count in (1, 51, 501):
        domains += [xen.domains.create() for _ in range(count - 1 - len(domains))]
        yield from lists(xen, xc, peer)
    for domain in domains:
        domain.destroy()


def vcpus(xen: pyxc.Xen, xc: Any, peer: Peer) -> Iterator[Operation]:
    """All vcpus of one domain."""
    domain = xen.domains.create(max_vcpus=VCPUS)
    domid = domain.domid
    yield Operation(
        f"vcpu info of {VCPUS} vcpus",
        calls(domain.vcpus.infos),
        peer.timer("vcpu_info", domid, VCPUS),
        calls(lambda: [xc.vcpu_getinfo(domid, vcpu) for vcpu in range(VCPUS)]),
    )
    domain.destroy()


def memory(xen: pyxc.Xen, peer: Peer) -> Iterator[Operation]:
    """Frames of a guest of 256 MiB. Each side reads the guest's p2m for itself."""
    domain = guest.create(xen, PAGES)
    frames = domain.memory.frames().frames
    yield Operation(
        "frame list of 256 MiB",
        calls(lambda: domain.memory.frames().frames),
        peer.timer("frame_list", domain.domid, PAGES),
    )
    yield Operation(
        "map and unmap 256 MiB",
        calls(lambda: domain.memory.map(frames).close()),
        peer.timer("map_guest", domain.domid, PAGES),
    )
    with domain.memory.map(frames) as mapped, memoryview(mapped) as view:
        yield Operation(
            "copy 256 MiB of mapped frames",
            calls(lambda: _copy(view)),
            peer.timer("copy_guest", domain.domid, PAGES),
        )
    domain.destroy()


_buffer = memoryview(bytearray(CHUNK))


def _copy(view: memoryview) -> None:
    for start in range(0, len(view), CHUNK):
        _buffer[:] = view[start : start + CHUNK]


def start_daemons() -> None:
    """What xl needs, here and where it builds and moves guests."""
    subprocess.run(["/guests/start-peer"], check=True)


def processes() -> dict[str, float]:
    """Seconds of whole processes, in turns: pyxc's commands beside xl's, and bare Python."""
    commands = [["python3", "-c", "pass"]]
    for words in (["list"], ["vcpu-list"], ["info"]):
        commands += [["pyxc", *words], [f"{TOOLS}/xl", *words]]
    rounds = [[_seconds(command) for command in commands] for _ in range(PROCESS_ROUNDS + 1)]
    medians = map(statistics.median, zip(*rounds[1:]))
    return {" ".join([Path(name).name, *rest]): found for (name, *rest), found in zip(commands, medians)}


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main(program: str, output: str, of_processes: str) -> None:
    """Measure everything on one cpu: clocks of emulated cpus differ."""
    os.sched_setaffinity(0, {0})
    sys.path.append(XC)
    xc = importlib.import_module("xen.lowlevel.xc").xc()
    peer = Peer(program)
    with pyxc.open(names=False) as xen:
        operations = [
            single_calls(xen, xc, peer),
            growing_lists(xen, xc, peer),
            vcpus(xen, xc, peer),
            memory(xen, peer),
        ]
        rows = []
        for operation in itertools.chain.from_iterable(operations):
            rows.append(measure(operation))
            print(rows[-1], flush=True)
    peer.close()
    Path(output).write_text(json.dumps(rows, indent=1) + "\n")
    start_daemons()
    found = processes()
    print(found, flush=True)
    Path(of_processes).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
