# SPDX-License-Identifier: MIT
"""Hundreds of thousands of operations leave this Xen, and the process that made them, as they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pyxc

PROGRAM = Path(__file__).parent.parent / "programs" / "endurance.py"
GROWTH_KB = 1024
"""What Python and Xen may come to need meanwhile; a leak of 8 bytes in each of 200,000 operations is more."""


@pytest.mark.usefixtures("unguarded")
def test_endurance(xen: pyxc.Xen) -> None:
    """In a process of its own, whose memory nobody else uses, and whose calls are not traced for coverage."""
    uuids, free_kb = [info.uuid for info in xen.domains.infos()], xen.physinfo().free_memory_kb
    command = (sys.executable, str(PROGRAM), os.environ.get("PYXC_OPERATIONS", "200000"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = map(json.loads, done.stdout.splitlines())
    assert last["descriptors"] == first["descriptors"]
    assert last["resident_kb"] <= first["resident_kb"] + GROWTH_KB
    assert [info.uuid for info in xen.domains.infos()] == uuids
    deadline = time.monotonic() + 10
    while xen.physinfo().free_memory_kb < free_kb - GROWTH_KB and time.monotonic() < deadline:
        time.sleep(0.05)
    assert xen.physinfo().free_memory_kb >= free_kb - GROWTH_KB
