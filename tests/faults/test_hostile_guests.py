# SPDX-License-Identifier: MIT
"""A guest can do what it likes: no answer costs dom0 more than 16 MiB and four times what the guest owns, on
resident memory and with the limits that ship, and nothing is raised but what is documented.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import hostile
import pytest
from emulation import needs_the_kernel
from steps import WHOLE

from pyxc import sim

PROGRAM = Path(__file__).with_name("hostile_guests.py")
SAMPLE = (0, 24, 44, 272)
"""Four guests that together do every trick."""
BATCHES = [range(first, first + 25) for first in range(0, 100, 25)] if WHOLE else []


@needs_the_kernel
@pytest.mark.parametrize("seeds", [SAMPLE, *BATCHES])
def test_no_mixture_of_tricks_costs_much(seeds: Iterable[int], tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path), *map(str, seeds)],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "MALLOC_MMAP_THRESHOLD_": "65536",  # what is freed goes back to the kernel at once
        },
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert json.loads(ran.stdout) == []


def test_the_sample_has_every_trick() -> None:
    did = [hostile.act(sim.Hypervisor(sim.named("sim:xen-4.17")), seed) for seed in SAMPLE]
    assert {trick for tricks in did for trick in tricks} == hostile.TRICKS.keys()
