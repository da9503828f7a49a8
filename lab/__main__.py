# SPDX-License-Identifier: MIT
"""The command line: python3 -m lab."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import config, host, vm


def parser() -> argparse.ArgumentParser:
    """The options of python3 -m lab."""
    options = argparse.ArgumentParser(
        prog="python3 -m lab", description="Run the tests on real Xen, in QEMU, with a Debian dom0.",
        epilog="Exit code 0 only if everything is green. Console logs and results: build/lab/.")
    options.add_argument("--xen", action="append", metavar="VERSION|PATH",
                         help="only this version, or the hypervisor file PATH in place of the lane's own")
    options.add_argument("--xen-file", type=Path, metavar="PATH", help="boot this hypervisor file")
    options.add_argument("--userland", choices=sorted({lane.root.arch for lane in config.LANES}),
                         help="only lanes with this dom0")
    options.add_argument("--add", action="append", default=[], type=_addition, metavar="HOST:GUEST",
                         help="put a file or directory of this machine into dom0 (may be repeated)")
    action = options.add_mutually_exclusive_group()
    action.add_argument("--run", metavar="CMD", help="run CMD in dom0 in place of the tests; exit with its code")
    action.add_argument("--shell", action="store_true", help="an interactive dom0 on this terminal")
    action.add_argument("--list", action="store_true", help="list the lanes")
    return options


def _addition(text: str) -> tuple[Path, str]:
    source, colon, path = text.rpartition(":")
    if not colon or not path.startswith("/") or not Path(source).exists():
        raise argparse.ArgumentTypeError(f"{text!r} is not EXISTING-PATH:/PATH-IN-DOM0")
    return Path(source), path


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what ARGUMENTS ask; return the exit code."""
    chosen = parser().parse_args(arguments)
    host.require_packages()
    lane = [lane for lane in config.LANES if (not chosen.xen or lane.hypervisor.version in chosen.xen) and (not chosen.userland or lane.root.arch == chosen.userland)][0]
    boot = vm.Boot(lane, chosen.xen_file, files=dict(chosen.add))
    if chosen.shell:
        return vm.shell(boot)
    result = vm.run(boot, chosen.run)
    sys.stdout.buffer.write(result.output)
    print(result.outcome, result.exit_code, result.seconds)
    return 0 if result.exit_code is None else result.exit_code


if __name__ == "__main__":
    sys.exit(main())
