# SPDX-License-Identifier: MIT
"""A guest can do what it likes: no answer costs dom0 more than 16 MiB and four times what the guest owns, on
resident memory and with the limits that ship, and nothing is raised but what is documented.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from emulation import needs_the_kernel
from steps import WHOLE

PROGRAM = Path(__file__).with_name("hostile_guests.py")
BATCH = 25


@needs_the_kernel
@pytest.mark.parametrize("first", range(0, 100, BATCH) if WHOLE else [0])
def test_no_mixture_of_tricks_costs_much(first: int, tmp_path: Path) -> None:
    last = first + (BATCH if WHOLE else 4)
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), str(first), str(last), str(tmp_path)],
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
