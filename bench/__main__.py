# SPDX-License-Identifier: MIT
"""The command line: python3 -m bench. Builds the sides, boots Xen 4.17 with an amd64 dom0, reports.

Before that, what needs no boot: whole processes, instructions of calls; of a simulated hypervisor frame
lists, a scrape of metrics, and memory by address.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import debugging, frame_lists, overhead, report, scrape, startup
from lab import config, host, packages, roots, vm

HERE = Path(__file__).parent
LANE = config.XEN_4_17_AMD64._replace(timeout_s=3600)
BUILD_ROOT = config.Root("bench-amd64", "amd64", "essential", ("gcc", "libc6-dev", "libxen-dev"))
COMPILE = "gcc -O2 -Wall -Werror -o /build/{0} /build/{0}.c -lxenctrl -lxenforeignmemory -lxenguest"
PROGRAMS = ("peer", "builder")
IN_DOM0 = """
python3 -m bench.in_dom0 /root/peer /results/bench.json /results/processes.json &&
python3 -m bench.building /root/builder /results/building.json &&
python3 -m bench.moving /results/moving.json {}
"""
JSON = host.CHECKOUT / "build" / "bench.json"
MARKDOWN = host.CHECKOUT / "docs" / "benchmarks.md"


def build_peers(directory: Path) -> dict[Path, str]:
    """The C side, built against the libraries of Xen 4.17: files, and their paths in dom0."""
    for name in PROGRAMS:
        shutil.copy(HERE / f"{name}.c", directory)
        roots.enter(BUILD_ROOT, directory, COMPILE.format(name).split())
    return {directory / name: f"/root/{name}" for name in PROGRAMS}


def with_room_for(mib: int) -> config.Lane:
    """A guest of this size moves: two of it beside dom0, and two files of it in a half of dom0's memory."""
    dom0_mb = max(LANE.dom0_memory_mb, 1376 + 4 * mib)
    return LANE._replace(dom0_memory_mb=dom0_mb, memory_mb=dom0_mb + 1184 + 2 * mib)


def measure(moved_mib: Sequence[int]) -> tuple[list[report.Row], list[report.Lines]]:
    """Boot once and return the numbers; LabError if there are none. `moved_mib`: see bench.moving."""
    lane = with_room_for(max(moved_mib))
    with tempfile.TemporaryDirectory(prefix="pyxc-bench-") as scratch:
        files = {**build_peers(Path(scratch)), HERE: "/root/bench"}
        boot = vm.Boot(lane, packages.archives(lane.root.arch), files)
        with host.step("measuring in one boot"):
            result = vm.run(boot, IN_DOM0.format(" ".join(map(str, moved_mib))))
    if result.outcome is not vm.Outcome.PASSED:
        output = result.output.decode(errors="replace")
        raise host.LabError(f"{result.outcome.value}, console in {vm.console_log(lane)}\n{output}")
    seconds = json.loads(result.files["processes.json"])
    built = report.building_table(json.loads(result.files["building.json"]))
    moved = report.moving_table(json.loads(result.files["moving.json"]))
    return report.rows(result.files["bench.json"]), [report.processes_table(seconds), built, moved]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return the exit code, which says nothing about speed."""
    options = argparse.ArgumentParser(prog="python3 -m bench", description=__doc__)
    options.add_argument(
        "--moved-mib",
        type=int,
        action="append",
        help="a size of the guests that are saved and migrated, from 128 on (256); may be repeated",
    )
    chosen = options.parse_args(arguments)
    try:
        host.need(config.LAB_NEEDS)
        before = os.getloadavg()[0]
        tables = [startup.measure(), overhead.measure(), frame_lists.measure(), scrape.measure()]
        tables.append(debugging.measure())
        for table in tables:
            print(f"{report.aligned(table)}\n", flush=True)
        rows, others = measure(chosen.moved_mib or [256])
    except host.LabError as error:
        host.say(f"bench: {error}")
        return 2
    conditions = (
        f"Load average of the machine: {before:.1f} before the boot, {os.getloadavg()[0]:.1f} after it."
    )
    JSON.parent.mkdir(exist_ok=True)
    JSON.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    written = "\n".join([report.markdown(rows, conditions), *map(report.piped_apart, [*others, *tables])])
    MARKDOWN.write_text(report.replaced(MARKDOWN.read_text(), written))
    print("\n\n".join([report.text(rows), *map(report.aligned, others), conditions]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
