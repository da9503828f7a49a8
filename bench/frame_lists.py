# SPDX-License-Identifier: MIT
"""Frame lists of a simulated guest of 64 GiB, beside a copy of the same bytes: python3 -m bench.frame_lists.

The hypervisor is in this process: no machine is booted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pyxc
from bench.report import Lines, aligned
from pyxc.sim import Hypervisor, named

ROUNDS = 7
GOAL = 2.0
"""The goal: at most this many times the duration of a plain copy of the same bytes."""


def measure() -> Lines:
    """A row for each byte order: millions of frames a second, and the time in units of a plain copy's."""
    lines: Lines = [("frame list of 64 GiB", "million frames/s", "time : copy", f"goal: {GOAL:g}x")]
    powerpc = named("sim:ppc64-64g")
    for profile in (powerpc, powerpc._replace(arch="x86_64", byteorder="little")):
        with pyxc.connect(Hypervisor(profile).connect(), names=False) as xen:
            guest = max(xen.domains.infos(), key=lambda info: info.tot_pages)
            listing, copy = _alternately(xen.domains[guest.domid], bytes(8 * guest.tot_pages))
            order = f"{profile.byteorder}-endian, {'swapped' if xen.swapped else 'native'}"
        verdict = "reached" if listing <= GOAL * copy else "missed"
        lines.append((order, f"{guest.tot_pages / listing / 1e6:.0f}", f"{listing / copy:.2f}", verdict))
    return lines


def _alternately(domain: pyxc.Domain, data: bytes) -> tuple[float, float]:
    """Medians of the seconds of a listing and of a copy to fresh memory, in turns."""
    domain.memory.frames()
    rounds = [(_seconds(domain.memory.frames), _seconds(lambda: bytearray(data))) for _ in range(ROUNDS)]
    listings, copies = zip(*rounds)
    return statistics.median(listings), statistics.median(copies)


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    print(aligned(measure()))
