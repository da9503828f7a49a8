# SPDX-License-Identifier: MIT
"""Builds guests in dom0, with pyxc, with libxenguest and with xl: python3 -m bench.building BUILDER OUTPUT.

BUILDER is the program built from builder.c. OUTPUT becomes a JSON list of objects with "guest", and medians
in milliseconds from the call, or from the start of the process, to the paused domain: "pyxc_ms" and "c_ms" of
a call, "pyxc_create_ms" of `pyxc create -p`, "xl_create_ms" of `xl create -p`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyxc

GUESTS = Path("/guests")
TOOLS = "/usr/lib/xen-4.17/bin"
SIZES_MIB = (64, 1024, 4096)
ROUNDS = 5
RESERVE_MIB = 128
"""What stays free beside the largest guest."""


def measure(xen: pyxc.Xen, builder: str, kind: str, mib: int) -> dict[str, str | float]:
    """All sides in turn; the first round is to warm up."""
    sides: dict[str, Callable[[], float]] = {
        "pyxc_ms": lambda: _called(xen, kind, mib),
        "c_ms": lambda: _with_c(builder, kind, mib),
        "pyxc_create_ms": lambda: _created(xen, ["pyxc", "create", "-q"], kind, mib),
        "xl_create_ms": lambda: _created(xen, [f"{TOOLS}/xl", "create", "-q"], kind, mib),
    }
    rounds = [{name: side() for name, side in sides.items()} for _ in range(ROUNDS + 1)][1:]
    medians = {name: round(statistics.median(one[name] for one in rounds) * 1000, 1) for name in sides}
    return {"guest": f"{kind.upper()}, {mib} MiB", **medians}


def _called(xen: pyxc.Xen, kind: str, mib: int) -> float:
    start = time.perf_counter()
    domain = xen.domains.build(GUESTS / kind, memory_kb=mib << 10)
    elapsed = time.perf_counter() - start
    domain.destroy()
    return elapsed


def _with_c(builder: str, kind: str, mib: int) -> float:
    command = [builder, kind, str(GUESTS / kind), str(mib), "1"]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout) / 1e9


def _created(xen: pyxc.Xen, command: list[str], kind: str, mib: int) -> float:
    name = "measured"
    words = [*command, "-p", str(GUESTS / f"{kind}.cfg"), f'name="{name}"', f"memory={mib}"]
    start = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    elapsed = time.perf_counter() - start
    subprocess.run([f"{TOOLS}/xl", "destroy", name], check=True)
    return elapsed


def main(builder: str, output: str) -> None:
    """Every guest for which the host has memory."""
    with pyxc.open() as xen:
        free_mib = xen.physinfo().free_memory_kb >> 10
        rows = []
        for mib in SIZES_MIB:
            for kind in ("pv", "pvh"):
                if mib + RESERVE_MIB <= free_mib:
                    rows.append(measure(xen, builder, kind, mib))
                    print(rows[-1], flush=True)
    Path(output).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
