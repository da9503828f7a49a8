# SPDX-License-Identifier: MIT
"""python3 -m lab.foreign: run the tests in real Pythons of other widths, byte orders and C libraries.

Each Python also runs commands on simulated hypervisors. They must print what the reference Python prints, and
the same bytes must leave the process.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lab import config, host, programs, pythons, report, suite
from lab.config import Python
from lab.suite import Test

OUTPUT = host.CHECKOUT / "build" / "foreign"
JOBS = 2
LIMIT_S = 2700
HEADER = ("python", "machine", "byte order", "bits", *report.STATES, "seconds")
ABOUT = """
import json, platform, struct, sys
print(json.dumps([platform.python_version(), sys.implementation._multiarch,
                  sys.byteorder, 8 * struct.calcsize("P")]))
"""


class Verdict(NamedTuple):
    """A Python's own report (version, machine, byte order, bits), its tests, and what else is wrong."""

    python: Python
    about: tuple[str, str, str, int]
    tests: tuple[Test, ...]
    problems: tuple[str, ...]
    seconds: float

    @property
    def name(self) -> str:
        """The name of the Python."""
        return self.python.name

    def count(self, state: str) -> int:
        """How many tests are in a state."""
        return sum(test.state == state for test in self.tests)

    @property
    def green(self) -> bool:
        """Whether nothing failed and nothing else is wrong."""
        return not self.problems and not self.count("failed")


def parser() -> argparse.ArgumentParser:
    """The options of python3 -m lab.foreign."""
    names = [python.name for python in config.FOREIGN]
    rare = ", ".join(python.name for python in config.RARE)
    options = argparse.ArgumentParser(
        prog="python3 -m lab.foreign",
        description="Run the tests that need no Xen in foreign Pythons, and compare these with an "
        f"{config.REFERENCE.name} Python.",
        epilog="Exit code 0 only if everything is green. Results are in build/foreign/.",
    )
    options.add_argument(
        "python", nargs="*", metavar="PYTHON", help=f"of {', '.join(names)} (default: all but {rare})"
    )
    options.add_argument("--all", action="store_true", help=f"with what takes long: {rare}")
    options.add_argument(
        "-k", dest="expression", metavar="EXPR", help="only run matching tests, as pytest -k"
    )
    options.add_argument("--run", nargs=argparse.REMAINDER, metavar="ARGUMENT",
                         help="run the Python with these arguments and pyxc, no tests")  # fmt: skip
    options.add_argument("--jobs", type=int, default=JOBS, metavar="N", help=f"Pythons at a time ({JOBS})")
    return options


def select(names: Sequence[str], everything: bool = False) -> list[Python]:
    """The Pythons with these names, or those that run by default. LabError for an unknown name."""
    known = {python.name: python for python in config.FOREIGN}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise host.LabError(f"unknown Python {unknown[0]!r}: expected one of {', '.join(known)}")
    default = [python for python in config.FOREIGN if everything or python not in config.RARE]
    return [known[name] for name in names] or default


def command(python: Python, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command line for `python` with `arguments`, and an environment with pyxc."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYXC"))}
    environment = {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(pythons.package(python))}
    if python.emulator:
        environment["PYXC_EMULATED"] = python.emulator
    return [str(pythons.home(python) / "bin/python3"), *arguments], {**inherited, **environment}


def run(python: Python, expression: str | None, everything: bool) -> Verdict:
    """Run the tests; unless pytest's -k `expression` selects some, also the commands."""
    start = time.monotonic()
    about, problems = examine(python)
    with host.step(f"{python.name}: testing"):
        tests, more = run_suite(python, expression, everything)
        if not expression:
            tests += compare(python)
    return Verdict(python, about, tests, (*problems, *more), time.monotonic() - start)


def examine(python: Python) -> tuple[tuple[str, str, str, int], list[str]]:
    """A Python's own report, and a problem if it is not of the kind that it should be."""
    words, environment = command(python, ["-c", ABOUT])
    said = subprocess.run(words, env=environment, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    version, machine, byteorder, bits = json.loads(said.stdout)
    wanted = (python.byteorder, python.bits)
    problems = [f"has {bits} bits and is {byteorder}-endian"] if (byteorder, bits) != wanted else []
    return (version, machine, byteorder, bits), problems


def run_suite(python: Python, expression: str | None, everything: bool) -> tuple[tuple[Test, ...], list[str]]:
    """The tests of pytest in `python`, and what is wrong beside failed tests."""
    some = () if everything or expression else python.particular
    junit = OUTPUT / python.name / "junit.xml"
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={junit}"]
    arguments += some or python.tests
    code = write_output(python, [*arguments, *(["-k", expression] if expression else [])], "pytest")
    tests = suite.read_junit(junit.read_bytes() if junit.exists() else b"")
    return tests, suite.check(tests, code, python.skips, bool(expression or some))


def compare(python: Python) -> tuple[Test, ...]:
    """A test for each command and each record of bytes: whether `python` prints what the reference does."""
    return tuple(_compare(python, name, arguments) for name, arguments in evidence())


def _compare(python: Python, name: str, arguments: Sequence[str]) -> Test:
    code = write_output(python, arguments, name)
    if code != 0:
        return Test(name, "failed", f"exit code {code}, see {output_file(python, name)}")
    same = output_file(python, name).read_bytes() == output_file(config.REFERENCE, name).read_bytes()
    return Test(name, "passed" if same else "failed", f"see {output_file(python, name)}")


def evidence() -> list[tuple[str, list[str]]]:
    """Names and arguments of the runs in which all Pythons must print the same."""
    commands = [
        (f"pyxc {target} {words}", ["-m", "pyxc", "--target", target, *words.split()])
        for target in config.TARGETS
        for words in config.COMMANDS
    ]
    return commands + [(f"bytes {target}", ["tests/wire.py", target]) for target in config.TARGETS]


def write_output(python: Python, arguments: Sequence[str], name: str) -> int | None:
    """Run `python` in the checkout, keep what it prints, and return its exit code."""
    words, environment = command(python, arguments)
    with output_file(python, name).open("wb") as output:
        return host.watch(words, output, LIMIT_S, cwd=host.CHECKOUT, environment=environment)


def output_file(python: Python, name: str) -> Path:
    """The file with the output of the run `name`."""
    return OUTPUT / python.name / re.sub(r"[^\w.]+", "-", name)


def run_all(chosen: Sequence[Python], expression: str | None, everything: bool, jobs: int) -> list[Verdict]:
    """The verdicts on `chosen`, `jobs` at a time; without an expression also that on the reference."""
    verdicts = []
    for python in (config.REFERENCE, *chosen):
        shutil.rmtree(OUTPUT / python.name, ignore_errors=True)
        (OUTPUT / python.name).mkdir(parents=True)
    if not expression:
        about, problems = examine(config.REFERENCE)
        verdicts.append(Verdict(config.REFERENCE, about, compare(config.REFERENCE), tuple(problems), 0))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        pending = [pool.submit(run, python, expression, everything) for python in chosen]
        try:
            return verdicts + [future.result() for future in pending]
        except BaseException:
            host.interrupt()
            pool.shutdown(cancel_futures=True)
            raise


def show(verdicts: Sequence[Verdict]) -> None:
    """Print what failed, then the report."""
    for verdict in verdicts:
        for test in verdict.tests:
            if test.state == "failed":
                host.say(f"lab: {verdict.name}: {test.name}: {test.reason}")
    print(report.text(HEADER, verdicts, row, report.STATES))


def row(verdict: Verdict) -> Sequence[str]:
    """The row of a Python under HEADER."""
    counts = [str(verdict.count(state)) for state in report.STATES]
    return (*map(str, verdict.about), *counts, f"{verdict.seconds:.0f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; return the exit code."""
    chosen = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, host.terminated)
    try:
        selected = select(chosen.python, chosen.all)
        host.need(config.FOREIGN_NEEDS)
        programs.add_prometheus()
        if chosen.run is not None:
            words, environment = command(selected[0], chosen.run)
            return subprocess.run(words, env=environment, check=False).returncode
        verdicts = run_all(selected, chosen.expression, chosen.all, chosen.jobs)
        show(verdicts)
        for python in () if chosen.python else [rare for rare in config.RARE if rare not in selected]:
            print(f"{python.name}: left out, --all runs it")
        for python in () if chosen.all else [python for python in selected if python.particular]:
            print(f"{python.name}: left out, --all runs it: all but {' '.join(python.particular)}")
        return 0 if all(verdict.green for verdict in verdicts) else 1
    except host.LabError as error:
        host.say(f"lab: {error}")
        return 2
    except KeyboardInterrupt:
        return host.INTERRUPTED_STATUS


if __name__ == "__main__":
    sys.exit(main())
