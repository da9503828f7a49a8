# SPDX-License-Identifier: MIT
"""The command line: python3 -m lab."""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import config, host, packages, report, suite, vm

# Each machine has two processors, and keeps them busy: more machines than fit take longer than in turn.
JOBS = max(1, (os.cpu_count() or 1) // 2)
# Whose place an own hypervisor takes when no lane is named.
DEFAULT_VERSION = "4.17"
LOST_STATUS = 128


def parser() -> argparse.ArgumentParser:
    """The options of python3 -m lab."""
    options = argparse.ArgumentParser(
        prog="python3 -m lab",
        description="Run tests/real on real Xen, in QEMU, with Debian dom0s.",
        epilog="Exit code 0 only if everything is green; of --run the command's own, 128 when its boot was "
        "lost. Results and console logs are in build/lab/; what is slow to make is cached in "
        "$PYXC_CACHE, else in ~/.cache/pyxc.",
    )
    lanes = options.add_argument_group("which lanes (all)")
    lanes.add_argument(
        "--xen",
        action="append",
        default=[],
        metavar="VERSION|PATH",
        help="this version (may be repeated), or a hypervisor file of your own",
    )
    lanes.add_argument("--xen-file", type=Path, metavar="PATH", help="a hypervisor file of your own")
    lanes.add_argument(
        "--userland", choices=sorted({lane.root.arch for lane in config.LANES}), help="lanes with this dom0"
    )
    lanes.add_argument("--list", action="store_true", help="list the lanes and do nothing")
    action = options.add_argument_group("what to do in place of all tests").add_mutually_exclusive_group()
    action.add_argument(
        "-k", dest="expression", metavar="EXPR", help="run the tests that match, as pytest -k"
    )
    action.add_argument("--run", metavar="CMD", help="run the shell command CMD in dom0, print its output")
    action.add_argument(
        "--shell",
        action="store_true",
        help="a shell in dom0, on this terminal; exit ends it, Ctrl-A X kills it",
    )
    extra = options.add_argument_group("how")
    extra.add_argument(
        "--add",
        action="append",
        default=[],
        type=_addition,
        metavar="HOST:DOM0",
        help="put a file or directory of this machine into dom0 (may be repeated)",
    )
    extra.add_argument(
        "--no-package", dest="package", action="store_false", help="leave the project's Debian package out"
    )
    extra.add_argument("--jobs", type=int, default=JOBS, metavar="N", help=f"boots at a time ({JOBS})")
    return options


def _addition(text: str) -> tuple[Path, str]:
    source, _, path = text.rpartition(":")
    if not path.startswith("/") or not Path(source).exists():
        raise argparse.ArgumentTypeError(f"{text!r} is not EXISTING-PATH:/PATH-IN-DOM0")
    return Path(source), path


def select(chosen: argparse.Namespace) -> list[config.Lane]:
    """The lanes that the options name; raises LabError when there is none."""
    versions = [name for name in chosen.xen if "/" not in name]
    files = [Path(name) for name in chosen.xen if "/" in name] + (
        [chosen.xen_file] if chosen.xen_file else []
    )
    if files and not versions:
        versions = [DEFAULT_VERSION]
    lanes = [lane for lane in config.LANES if not versions or lane.hypervisor.name in versions]
    lanes = [lane for lane in lanes if chosen.userland in (None, lane.root.arch)]
    if files:
        lanes = [lane._replace(xen=path) for path in files for lane in lanes]
    missing = [str(path) for path in files if not path.is_file()]
    if missing or not lanes:
        raise host.LabError(
            f"no such file: {missing[0]}" if missing else "no lane matches (--list shows them)"
        )
    return lanes


def run_tests(lanes: Sequence[config.Lane], chosen: argparse.Namespace) -> int:
    """Run the suite in LANES, some at a time; print the report."""
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
    print(report.text(report.LANES, verdicts, report.lane_row))
    return 0 if all(verdict.green for verdict in verdicts) else 1


def _show_output(lane: config.Lane) -> None:
    output = vm.console_log(lane).with_name("output")
    if output.exists():
        host.say(f"lab: {lane.name}: output of the tests\n{output.read_text(errors='replace')}")


def _show_differential(lane: config.Lane) -> None:
    """How libxc's own binding and pyxc's compare, where both were run: each method in a line."""
    file = vm.console_log(lane).with_name("differential.txt")
    if file.exists():
        summary, _, _ = file.read_text().partition("\n\n")
        print(f"{lane.name}: xen.lowlevel.xc, libxc's and pyxc's\n{summary}\n")


def run_command(lanes: Sequence[config.Lane], chosen: argparse.Namespace) -> int:
    """Run a command in each of LANES, in turn; return the first exit code that is not 0."""
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
    """Do what ARGUMENTS ask; return the exit code."""
    chosen = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, host.terminated)
    try:
        lanes = select(chosen)
        if chosen.list:
            print(
                "\n".join(
                    f"{lane.xen_name:9} {lane.root.arch:6} peer: {lane.peer_path or 'none'}" for lane in lanes
                )
            )
            return 0
        host.need(config.LAB_NEEDS)
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
