# SPDX-License-Identifier: MIT
"""Every operation and every mistake on this Xen, against what was recorded on one of the same release."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import callscript
import pytest

import pyxc

RECORDINGS = Path(__file__).parent.parent / "recordings"


@pytest.fixture
def changed_dom0() -> Iterator[None]:
    """The script gives pages to dom0 that nobody has any use for, and pins its process to a cpu."""
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("changed_dom0")
def test_same_outcomes_as_recorded(xen: pyxc.Xen) -> None:
    name = "xen-{}.{}.outcomes.json".format(*xen.interface.xen)
    recorded = json.loads((RECORDINGS / name).read_text())
    outcomes = json.loads(json.dumps(callscript.run(xen)))
    assert callscript.differences(recorded, outcomes) == {}
