# SPDX-License-Identifier: MIT
"""The overhead of the libraries for a call, in instructions: python3 -m bench.overhead. Needs no boot.

All run against a privcmd device of constants (fake_privcmd.c) and are counted by callgrind, so that the
numbers are the same on any day. Each is the difference between N calls and twice as many, divided by N.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.report import Lines, aligned
from lab import apt, cache, host

HERE = Path(__file__).parent
SUITE, ARCH = "bookworm", "amd64"
PACKAGES = (
    "xen-utils-4.17", "libxenmisc4.17", "libxencall1", "libxendevicemodel1", "libxenevtchn1",
    "libxenforeignmemory1", "libxengnttab1", "libxentoollog1", "libxentoolcore1", "libxen-dev",
)  # fmt: skip
NEEDS = ("gcc", "libc6-dev", "valgrind")
TIMES, TIMES_OF_LISTS = 500, 8


class Operation(NamedTuple):
    """What is counted. The names are those of overhead_side.py, C's is a line for peer.c.

    pyxc's limit is so many instructions, or so many times C's.
    """

    name: str
    pyxc: str
    xc: str | None = None
    c: str | None = None
    most: int | None = None
    most_of_c: float | None = None
    times: int = TIMES


OPERATIONS = (
    Operation("xen.call(VERSION)", "call", None, "xen_version {} 0 0", most=6000),
    Operation("xen information", "information", "xeninfo", "xen_info {} 0 0"),
    Operation("domain info", "info", "getinfo", "domain_info {} 0 0", most_of_c=1.3),
    Operation("physinfo", "physinfo", "physinfo", "physinfo {} 0 0", most_of_c=1.3),
    Operation(
        "list of 501 domains", "list", "list", "domain_list {} 0 1024", most_of_c=4, times=TIMES_OF_LISTS
    ),
    Operation("open a handle", "open", "open"),
    Operation("open, domain info, close", "open and ask", "open and ask"),
)


class Counter:
    """Counts instructions of the three sides; `scratch` is a directory for what callgrind writes."""

    def __init__(self, scratch: Path) -> None:
        root = cache.entry("overhead", (SUITE, ARCH, PACKAGES, apt.mirror()), _fetch)
        library = root / "usr/lib/x86_64-linux-gnu"
        self._modules = root / "usr/lib/xen-4.17/lib/python"
        self._scratch = scratch
        self._device, self._peer = scratch / "fake_privcmd.so", scratch / "peer"
        compiler = ["gcc", "-O2", "-Wall", "-Werror", f"-I{root / 'usr/include'}"]
        host.call([*compiler, "-shared", "-fPIC", "-o", self._device, HERE / "fake_privcmd.c", "-ldl"])
        linked = [f"-L{library}", f"-Wl,-rpath-link,{library}", "-lxenctrl", "-lxenforeignmemory"]
        host.call([*compiler, "-o", self._peer, HERE / "peer.c", *linked])
        preloaded = {"LD_PRELOAD": str(self._device), "LD_LIBRARY_PATH": str(library)}
        self._variables = {**os.environ, **preloaded, "PYTHONPATH": str(host.CHECKOUT), "PYTHONHASHSEED": "0"}

    def python(self, side: str, calls: dict[str, int]) -> dict[str, int]:
        """Instructions of calls of pyxc or xc, each made so many times, in one process."""
        wanted = [f"{name}={times}" for name, times in calls.items()]
        self._run(side, [sys.executable, "-m", "bench.overhead_side", side, str(self._modules), *wanted])
        parts = [path.read_text() for path in self._scratch.glob(f"{side}.*")]
        totals = {_found("desc: Trigger: Client Request: (.*)", part): _total(part) for part in parts}
        return {name: (totals[f"{name}-2"] - totals[f"{name}-1"]) // times for name, times in calls.items()}

    def c(self, line: str, times: int) -> int:
        """Instructions of a call of C on libxenctrl."""
        once, twice = (
            _total(self._run(f"c-{number}", [str(self._peer)], line.format(number) + "\n"))
            for number in (times, 2 * times)
        )
        return (twice - once) // times

    def _run(self, name: str, words: list[str], given: str = "") -> str:
        """Run a program under callgrind, and return what that counted from the last mark on."""
        out = self._scratch / name
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *words]
        done = subprocess.run(
            command, input=given, env=self._variables, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise host.LabError(f"{words} failed:\n{done.stderr[-2000:]}")
        return out.read_text()


def _fetch(into: Path) -> None:
    for package in PACKAGES:
        apt.fetch(SUITE, ARCH, package, into)


def _total(counted: str) -> int:
    return int(_found("totals: (.*)", counted))


def _found(pattern: str, text: str) -> str:
    """The first group of a line; "" where there is no such line."""
    match = re.search(f"^{pattern}$", text, re.MULTILINE)
    return match[1] if match else ""


def measure() -> Lines:
    """A row for each operation, with pyxc's goal."""
    host.need(NEEDS)
    with tempfile.TemporaryDirectory(prefix="pyxc-bench-") as scratch, host.step("counting instructions"):
        counter = Counter(Path(scratch))
        mine = counter.python("pyxc", {operation.pyxc: operation.times for operation in OPERATIONS})
        theirs = counter.python("xc", {found.xc: found.times for found in OPERATIONS if found.xc})
        lines: Lines = [("instructions for a call", "pyxc", "xc", "C", "pyxc : C", "goal", "")]
        for operation in OPERATIONS:
            c = counter.c(operation.c, operation.times) if operation.c else None
            lines.append(_row(operation, mine[operation.pyxc], theirs.get(operation.xc or ""), c))
    return lines


def _row(operation: Operation, pyxc: int, xc: int | None, c: int | None) -> tuple[str, ...]:
    limit, goal = operation.most, f"{operation.most}"
    if operation.most_of_c is not None and c is not None:
        limit, goal = int(operation.most_of_c * c), f"{operation.most_of_c:g}x of C"
    verdict = "" if limit is None else "reached" if pyxc <= limit else "missed"
    counts = ("-" if count is None else f"{count:,}" for count in (pyxc, xc, c))
    ratio = f"{pyxc / c:.2f}" if c else "-"
    return (operation.name, *counts, ratio, "-" if limit is None else goal, verdict)


if __name__ == "__main__":
    print(aligned(measure()))
