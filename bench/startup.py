# SPDX-License-Identifier: MIT
"""Time and memory of whole processes, compared with bare Python: python3 -m bench.startup.

No machine is booted: `pyxc list` asks a recording.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.report import Lines, aligned
from lab import host

ROUNDS = 20
SCRIPT = host.CHECKOUT / "debian" / "command"
MEMORY_GOAL = 2.0
TELL_MEMORY = "import atexit; atexit.register(lambda: print(open('/proc/self/status').read()))"


class Program(NamedTuple):
    """Code for a new Python, its arguments, and the most time that it may take, relative to bare Python."""

    name: str
    code: str
    words: tuple[str, ...] = ()
    goal: float | None = None


def programs(directory: Path) -> list[Program]:
    """Bare Python comes first."""
    recording = str(directory / "list.calls")
    command = SCRIPT.read_text()
    record = ("--target", "sim:xen-4.17", "--provenance", "none", "--record", recording, "list")
    run(command, record, environment(directory))
    return [
        Program("python3 -c pass", "pass"),
        Program("import pyxc", "import pyxc", (), 3),
        Program("pyxc --version", command, ("--version",), 2.5),
        Program("pyxc list, replayed", command, ("--target", f"replay:{recording}", "list"), 5),
    ]


def environment(directory: Path) -> dict[str, str]:
    """Modules are compiled once, as those of a package are when it is installed."""
    compiled = {"PYTHONPYCACHEPREFIX": str(directory / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
    return {**os.environ, **compiled, "PYTHONPATH": str(host.CHECKOUT)}


def run(code: str, words: Sequence[str], variables: dict[str, str]) -> float:
    """Seconds of a process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *words], env=variables, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def memory_kb(program: Program, variables: dict[str, str]) -> int:
    """KiB that are resident at most; what wait4() says includes the process that started it."""
    words = [sys.executable, "-c", f"{TELL_MEMORY}\n{program.code}", *program.words]
    told = subprocess.run(words, env=variables, stdout=subprocess.PIPE, check=True, text=True).stdout
    return int(told.rpartition("VmHWM:")[2].split()[0])


def measure() -> Lines:
    """A row for each program: the medians of rounds in which each has its turn, and bare Python's as 1."""
    with tempfile.TemporaryDirectory(prefix="pyxc-bench-") as scratch:
        directory = Path(scratch)
        started, variables = programs(directory), environment(directory)
        memory = [memory_kb(program, variables) for program in started]
        rounds = [[run(program.code, program.words, variables) for program in started] for _ in range(ROUNDS)]
    seconds = map(statistics.median, zip(*rounds))
    lines: Lines = [("process", "ms", "time", "goal", "", "MiB", "memory", f"goal: {MEMORY_GOAL:g}x")]
    rows = list(zip(started, seconds, memory))
    return lines + [_row(*row, *rows[0][1:]) for row in rows]


def _row(program: Program, seconds: float, memory: int, bare_s: float, bare_kb: int) -> tuple[str, ...]:
    times, share = seconds / bare_s, memory / bare_kb
    goal, verdict = "-", "-"
    if program.goal is not None:
        goal, verdict = f"{program.goal:g}x", "reached" if times <= program.goal else "missed"
    return (
        program.name, f"{seconds * 1000:.1f}", f"{times:.2f}x", goal, verdict,
        f"{memory / 1024:.1f}", f"{share:.2f}x", "reached" if share <= MEMORY_GOAL else "missed",
    )  # fmt: skip


if __name__ == "__main__":
    print(aligned(measure()))
