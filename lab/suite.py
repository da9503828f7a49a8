# SPDX-License-Identifier: MIT
"""The run of the suite in one lane, from the boot to the verdict."""

from __future__ import annotations

import fnmatch
import json
import shlex
import shutil
import signal
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import NamedTuple

from lab import config, host, packages, programs, vm

# Branch coverage of what only runs in dom0: tracing all of the package takes too long in an emulated machine.
# The report is made where the sources are.
SCRIPT = """
cd /job
export COVERAGE_FILE=/results/.coverage COVERAGE_RCFILE=/job/coveragerc
cat > $COVERAGE_RCFILE <<'END'
[run]
branch = true
include = {measured}
[report]
exclude_lines =
    if TYPE_CHECKING:
END
python3 -m coverage run -m pytest -v -p no:cacheprovider --durations=30 \\
    --junitxml=/results/junit.xml {arguments}
code=$?
python3 -m coverage json -q -o /results/coverage.json
exit $code
"""
MEASURED = ",".join(f"*/{module}" for module, _ in config.SUITE.coverage)
NOTHING_COLLECTED = 5
# Exit codes of a shell for a program that a signal ended.
CRASHED = tuple(128 + number for number in (signal.SIGILL, signal.SIGBUS, signal.SIGSEGV))


class Test(NamedTuple):
    """A test as JUnit describes it. `state` is passed, failed, crashed or skipped.

    A test that failed has crashed if a process crashed while guests ran: the emulation makes processes crash.
    """

    name: str
    state: str
    reason: str


class Verdict(NamedTuple):
    """The tests of a lane, and what is wrong beside failed tests.

    `seconds` is the time from power-on to power-off. `lost` is whether there are no results.
    """

    lane: config.Lane
    tests: tuple[Test, ...]
    problems: tuple[str, ...]
    seconds: float
    lost: bool

    @property
    def name(self) -> str:
        """The name of the lane."""
        return self.lane.name

    def count(self, state: str) -> int:
        """How many tests are in a state."""
        return sum(test.state == state for test in self.tests)

    @property
    def green(self) -> bool:
        """Whether nothing failed or crashed and nothing else is wrong."""
        return not (self.problems or self.count("failed") or self.count("crashed"))

    @property
    def broken(self) -> bool:
        """Whether the emulation is the only reason why the lane is not green."""
        return self.lost or bool(self.count("crashed") and not self.problems and not self.count("failed"))


def run(lane: config.Lane, expression: str | None, files: dict[Path, str], with_package: bool) -> Verdict:
    """Run the suite, or the tests that match pytest's -k `expression`; the results go to build/lab/LANE."""
    archives = packages.archives(lane.root.arch) if with_package else []
    copied = {host.CHECKOUT / name: f"/job/{name}" for name in (config.SUITE.tests, *config.SUITE.helpers)}
    environment = {
        "PYXC_TEST_XEN": "1",
        "PYXC_RELEASE": lane.hypervisor.version,
        "PYXC_OPERATIONS": str(lane.operations),
    }
    if lane.peer:
        copied[programs.directory()] = environment["PYXC_PROGRAMS"] = "/programs"
    boot = vm.Boot(lane, archives, {**copied, **files}, environment)
    expression = expression or lane.particular
    expressions = " and ".join(f"({part})" for part in (lane.expression, expression) if part)
    left_out = [] if expression else [f"--ignore={name}" for name in lane.left_out]
    arguments = [config.SUITE.tests, *left_out, *(["-k", expressions] if expressions else [])]
    partial = bool(expression or lane.hypervisor.file)
    verdict = _attempt(lane, boot, shlex.join(arguments), partial)
    # A lost boot was tried twice already.
    if verdict.broken and not verdict.lost:
        host.say(f"lab: {lane.name}: processes crashed while guests ran; repeating")
        verdict = _attempt(lane, boot, shlex.join(arguments), partial)
    return verdict


def _attempt(lane: config.Lane, boot: vm.Boot, arguments: str, partial: bool) -> Verdict:
    with host.step(f"{lane.name}: testing"):
        result = vm.run(boot, SCRIPT.format(arguments=arguments, measured=MEASURED))
    save(lane, result)
    return judge(lane, result, partial)


def save(lane: config.Lane, result: vm.Result) -> None:
    """Replace the files in the directory of a lane with those of `result`; console logs stay."""
    top = vm.console_log(lane).parent
    for old in top.iterdir():
        if old.suffix != ".log":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    for name, content in result.files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def judge(lane: config.Lane, result: vm.Result, partial: bool) -> Verdict:
    """Compare `result` with what config.py expects of the lane; if `partial`, of only some of the tests."""
    tests = read_junit(result.files.get("junit.xml", b""))
    lost = result.outcome is vm.Outcome.LOST
    crashed = lane.peer is not None and result.exit_code in CRASHED and not tests
    if lost:
        problems = [f"lost twice, see {vm.console_log(lane)}"]
    elif crashed:
        problems = [f"Python crashed (exit code {result.exit_code}), see {vm.console_log(lane)}"]
    else:
        left_out = tuple(name.removesuffix(".py").replace("/", ".") for name in lane.left_out)
        skips = tuple(skip for skip in lane.skips if not skip.pattern.startswith(left_out))
        problems = check(tests, result.exit_code, skips, partial)
    if not (partial or lost or crashed or lane.expression):
        problems += _coverage_problems(result.files.get("coverage.json"))
    return Verdict(lane, tests, tuple(problems), result.seconds, lost or crashed)


def check(
    tests: tuple[Test, ...], exit_code: int | None, skips: tuple[config.Skip, ...], partial: bool
) -> list[str]:
    """What is wrong beside failed tests. If not `partial`, all `skips` must have been skipped."""
    problems = []
    if not tests and not (partial and exit_code == NOTHING_COLLECTED):
        problems.append(f"no tests ran, exit code {exit_code}")
    elif tests and exit_code != 0 and not any(test.state in ("failed", "crashed") for test in tests):
        problems.append(f"no test failed, but the exit code is {exit_code}")
    return problems + _unexpected_skips(skips, tests) + ([] if partial else _missing_skips(skips, tests))


def read_junit(text: bytes) -> tuple[Test, ...]:
    """The tests in a JUnit XML file, which may be empty."""
    return tuple(_test(case) for case in xml.fromstring(text).iter("testcase")) if text else ()


def _test(case: xml.Element) -> Test:
    crash = case.find("properties/property[@name='crash']")
    name = "::".join(filter(None, (case.get("classname"), case.get("name"))))
    for tag, state in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        found = case.find(tag)
        if found is not None and state == "failed" and crash is not None:
            return Test(name, "crashed", crash.get("value") or "")
        if found is not None:
            return Test(name, state, found.get("message") or "")
    return Test(name, "passed", "")


def _unexpected_skips(skips: tuple[config.Skip, ...], tests: tuple[Test, ...]) -> list[str]:
    return [
        f"unexpected skip of {test.name}: {test.reason}"
        for test in tests
        if test.state == "skipped" and not any(fnmatch.fnmatchcase(test.name, skip.pattern) for skip in skips)
    ]


def _missing_skips(skips: tuple[config.Skip, ...], tests: tuple[Test, ...]) -> list[str]:
    skipped = [test.name for test in tests if test.state == "skipped"]
    return [
        f"{skip.pattern} should have been skipped ({skip.reason})"
        for skip in skips
        if not fnmatch.filter(skipped, skip.pattern)
    ]


def _coverage_problems(measured: bytes | None) -> list[str]:
    """The modules whose coverage, in the JSON report `measured`, is below its limit."""
    files = json.loads(measured)["files"] if measured else {}
    problems = []
    for module, limit in config.SUITE.coverage:
        reached = [
            file["summary"]["percent_covered"] for path, file in files.items() if path.endswith(module)
        ]
        if not reached or reached[0] < limit:
            percent = f"{reached[0]:.0f} %" if reached else "not measured"
            problems.append(f"branch coverage of {module}: {percent}, should be {limit} %")
    return problems
