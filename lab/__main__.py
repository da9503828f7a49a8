# SPDX-License-Identifier: MIT
"""python3 -m lab: run tests/real on real Xen, in QEMU."""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import config, host, own, packages, report, suite, vm

# Each machine keeps two processors busy. More machines than fit would take longer than one after the other.
JOBS = max(1, (os.cpu_count() or 1) // 2)
LOST_STATUS = 128
# Nothing failed but the emulation.
BROKEN_STATUS = 3


def parser() -> argparse.ArgumentParser:
    """The options of python3 -m lab."""
    options = argparse.ArgumentParser(
        prog="python3 -m lab",
        description="Run tests/real on real Xen, in QEMU, each with a Debian dom0.",
        epilog="Exit code: 0 if everything is green; 1 after failures; 3 if nothing failed but boots were "
        "lost or processes crashed beside running guests, which the emulation is to blame for; with --run, "
        "that of the command, 128 if its boot was lost. Results and console logs are in build/lab/. The "
        "cache is in $PYXC_CACHE, by default ~/.cache/pyxc.",
    )
    lanes = options.add_argument_group(
        "which lanes (default: all but those that are left out, which the end of the output names)"
    )
    lanes.add_argument(
        "--xen",
        action="append",
        default=[],
        metavar="VERSION|PATH",
        help="this version, or a hypervisor file: one with a slash in its path (may be repeated)",
    )
    lanes.add_argument(
        "--userland", choices=sorted({lane.root.arch for lane in config.LANES}), help="lanes with this dom0"
    )
    lanes.add_argument("--list", action="store_true", help="list the lanes")
    lanes.add_argument(
        "--all",
        action="store_true",
        help="with what takes long, as 200,000 operations of endurance",
    )
    action = options.add_argument_group("what to do (default: all tests)").add_mutually_exclusive_group()
    action.add_argument("-k", dest="expression", metavar="EXPR", help="run matching tests, as pytest -k")
    action.add_argument("--run", metavar="CMD", help="run a shell command in dom0 and print its output")
    action.add_argument(
        "--shell",
        action="store_true",
        help="start a shell in dom0 on this terminal; Ctrl-A X kills the machine",
    )
    extra = options.add_argument_group("how")
    extra.add_argument(
        "--add",
        action="append",
        default=[],
        type=_addition,
        metavar="HOST:DOM0",
        help="add a file or directory of this machine to dom0 (may be repeated)",
    )
    extra.add_argument(
        "--no-package", dest="package", action="store_false", help="without the project's Debian package"
    )
    extra.add_argument("--jobs", type=int, default=JOBS, metavar="N", help=f"boots at a time ({JOBS})")
    return options


def _addition(text: str) -> tuple[Path, str]:
    source, _, path = text.rpartition(":")
    if not path.startswith("/") or not Path(source).exists():
        raise argparse.ArgumentTypeError(f"invalid {text!r}: expected EXISTING-PATH:/PATH-IN-DOM0")
    return Path(source), path


def listing() -> str:
    """A table of all lanes: hypervisor, architecture of dom0, and the path of Xen's own tools in dom0."""
    lines = [(lane.hypervisor.name, lane.root.arch, lane.peer_path or "none") for lane in config.LANES]
    return "\n".join(report.table([("hypervisor", "userland", "peer"), *lines]))


def select(chosen: argparse.Namespace) -> list[config.Lane]:
    """The lanes that the options select. LabError if there are none."""
    lanes = [lane for name in chosen.xen for lane in _named(name)] if chosen.xen else list(config.LANES)
    lanes = [lane for lane in lanes if chosen.userland in (None, lane.root.arch)]
    if chosen.all:
        lanes = [
            lane._replace(
                operations=lane.all_operations, left_out=(), particular=None, timeout_s=config.ALL_TIMEOUT_S
            )
            for lane in lanes
        ]
    elif not chosen.xen:
        lanes = [lane for lane in lanes if not lane.rare]
    if not lanes:
        raise host.LabError("no lane matches (--list shows them)")
    names = [lane.name for lane in lanes]
    if len(set(names)) < len(names):
        raise host.LabError(f"two lanes have the same name, rename a hypervisor file: {' '.join(names)}")
    return lanes


def _named(name: str) -> list[config.Lane]:
    """The lanes of a version, or of a hypervisor file."""
    if "/" in name:
        return own.lanes(Path(name))
    return [lane for lane in config.LANES if lane.hypervisor.name == name]


def run_tests(lanes: Sequence[config.Lane], chosen: argparse.Namespace) -> int:
    """Run the suite in `lanes`, print the report, and return the exit code."""
    with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
        pending = [
            pool.submit(suite.run, lane, chosen.expression, dict(chosen.add), chosen.package)
            for lane in lanes
        ]
        try:
            verdicts = [future.result() for future in pending]
        except BaseException:
            host.interrupt()
            pool.shutdown(cancel_futures=True)
            raise
    for verdict in verdicts:
        if not verdict.green:
            _show_output(verdict.lane)
    for verdict in verdicts:
        _show_differential(verdict.lane)
        _show_skips(verdict)
    if not chosen.expression:
        _show_left_out(lanes, bool(chosen.xen))
    print(report.text(report.LANES, verdicts, report.lane_row, report.LANE_STATES))
    red = [verdict for verdict in verdicts if not verdict.green]
    return (BROKEN_STATUS if all(verdict.broken for verdict in red) else 1) if red else 0


def _show_output(lane: config.Lane) -> None:
    output = vm.console_log(lane).with_name("output")
    if output.exists():
        host.say(f"lab: {lane.name}: output of the tests\n{output.read_text(errors='replace')}")


def _show_differential(lane: config.Lane) -> None:
    """Print how Xen's own Python binding and pyxc's compare, method by method, if both were run."""
    file = vm.console_log(lane).with_name("differential.txt")
    if file.exists():
        summary, _, _ = file.read_text().partition("\n\n")
        print(f"{lane.name}: xen.lowlevel.xc of libxc and of pyxc\n{summary}\n")


def _show_left_out(lanes: Sequence[config.Lane], named: bool) -> None:
    """Print what only --all runs, of these lanes and, unless they were named, of the others."""
    for lane in lanes:
        left = [f"{lane.all_operations:,} operations of endurance"] * (lane.operations < lane.all_operations)
        most = [f"all but -k '{lane.particular}'"] * (lane.particular is not None)
        for what in (*left, *most, *lane.left_out):
            print(f"{lane.name}: left out, --all runs it: {what}")
    run = {lane.name for lane in lanes}
    for lane in () if named else config.LANES:
        if lane.rare and lane.name not in run:
            print(f"{lane.name}: left out, --all runs it")


def _show_skips(verdict: suite.Verdict) -> None:
    """Print why tests were skipped, for a hypervisor whose skips are not declared."""
    if verdict.lane.hypervisor.file:
        reasons = collections.Counter(test.reason for test in verdict.tests if test.state == "skipped")
        print("".join(f"{verdict.name}: {count} skipped: {reason}\n" for reason, count in reasons.items()))


def run_command(lanes: Sequence[config.Lane], chosen: argparse.Namespace) -> int:
    """Run a command in each lane, in turn; return the first exit code that is not 0."""
    codes = []
    for lane in lanes:
        with host.step(f"{lane.name}: running the command"):
            result = vm.run(_boot(lane, chosen), chosen.run)
        suite.save(lane, result)
        sys.stdout.buffer.write(result.output)
        sys.stdout.flush()
        codes.append(LOST_STATUS if result.exit_code is None else result.exit_code)
    return next(filter(None, codes), 0)


def _boot(lane: config.Lane, chosen: argparse.Namespace) -> vm.Boot:
    archives = packages.archives(lane.root.arch) if chosen.package else []
    return vm.Boot(lane, archives, dict(chosen.add))


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; return the exit code."""
    chosen = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, host.terminated)
    try:
        if chosen.list:
            print(listing())
            return 0
        host.need(config.LAB_NEEDS)
        lanes = select(chosen)
        if chosen.shell:
            return vm.shell(_boot(lanes[0], chosen))
        return run_command(lanes, chosen) if chosen.run else run_tests(lanes, chosen)
    except host.LabError as error:
        host.say(f"lab: {error}")
        return 2
    except KeyboardInterrupt:
        return host.INTERRUPTED_STATUS


if __name__ == "__main__":
    sys.exit(main())
