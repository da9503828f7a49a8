# SPDX-License-Identifier: MIT
"""Searches for harmful bytes, guided by the code that they reach: `make fuzz`, see --help.

Each decoder gets its time, in a process of its own. What harms is kept in DIRECTORY/NAME, where `--again`
takes the decoder's name from; so is what reached something new, to go on from in the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

if TYPE_CHECKING:
    from targets import Target

_HANG_S = 20
_MEMORY_MOST_MB = 2048
_FOUND = ("crash-*", "timeout-*", "oom-*", "slow-unit-*")
_RUNS = re.compile(r"number_of_executed_units: (\d+)")


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.again:
        return _again(arguments.again)
    targets = _instrumented()
    unknown = set(arguments.names) - set(targets)
    if unknown:
        print(f"no decoder is called {' or '.join(sorted(unknown))}; there are {' '.join(targets)}")
        return 2
    return _fuzz({name: targets[name] for name in arguments.names or targets}, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=...", description="Fuzz every decoder.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="these decoders only (default: all)")
    parser.add_argument("--seconds", type=float, default=1, help="time for each decoder (default: 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at once (default: cpus)")
    parser.add_argument("--directory", type=Path, default=Path("build/fuzz"), help="(default: build/fuzz)")
    parser.add_argument("--again", nargs="+", type=Path, metavar="FILE", help="feed files that were kept")
    return parser


def _again(files: list[Path]) -> int:
    """An input that still does harm ends the process with a traceback."""
    from targets import TARGETS

    for file in files:
        TARGETS[file.absolute().parent.name].feed(file.read_bytes())
        print(f"{file}: does no harm")
    return 0


def _instrumented() -> dict[str, Target]:
    import atheris

    # It names every module that it changes.
    with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["pyxc"]):
        from targets import TARGETS
    return TARGETS


def _fuzz(targets: dict[str, Target], arguments: argparse.Namespace) -> int:
    """Fuzz as many at once as requested; return the exit code."""
    started = time.monotonic()
    waiting, running = list(targets), dict[int, str]()
    failed, runs = [], 0
    while waiting or running:
        if waiting and len(running) < arguments.jobs:
            name = waiting.pop(0)
            running[_start(targets[name], arguments.directory / name, arguments.seconds)] = name
            continue
        pid, status = os.wait()
        name = running.pop(pid)
        runs += _outcome(name, arguments.directory / name, status, failed)
    print(f"{len(targets)} decoders, {runs} inputs, {time.monotonic() - started:.0f} s: {len(failed)} failed")
    return 1 if failed else 0


def _start(target: Target, directory: Path, seconds: float) -> int:
    """Start a process that has already imported everything; return its id.

    It ends as Python does, which is when the fuzzer writes down what failed.
    """
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(target.samples()):
        (corpus / f"sample-{number}").write_bytes(sample)
    pid = os.fork()
    if pid:
        return pid
    log = os.open(directory / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    _child(target, directory, seconds)
    sys.exit()


def _child(target: Target, directory: Path, seconds: float) -> None:
    import atheris

    options = {
        "timeout": _HANG_S, "rss_limit_mb": _MEMORY_MOST_MB,
        "artifact_prefix": f"{directory}/", "print_final_stats": 1, "reload": 0,
    }  # fmt: skip
    # Of the fuzzer's own limit a second is two.
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.daemon = True
    timer.start()
    given = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup(["fuzz", str(directory / "corpus"), *given], target.feed)
    atheris.Fuzz()


def _outcome(name: str, directory: Path, status: int, failed: list[str]) -> int:
    """Report the outcome of a decoder; return the number of its inputs."""
    log = (directory / "log").read_text(errors="replace")
    told = _RUNS.search(log)
    if status or not told:
        failed.append(name)
        print(log)
        print(f"{name}: FAILED")
        for pattern in _FOUND:
            for file in sorted(directory.glob(pattern)):
                print(f"  make fuzz ARGS='--again {file}'")
    return int(told[1]) if told else 0


if __name__ == "__main__":
    sys.exit(main())
