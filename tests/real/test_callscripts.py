# SPDX-License-Identifier: MIT
"""Every operation and every mistake on this Xen, against what was recorded on one of the same release."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from pprint import pformat

import callscripts
import pytest

import pyxc

RECORDINGS = Path(__file__).parent.parent / "recordings"
WITH_POOLS = {"pools", "scheduling", callscripts.LAST}


@pytest.fixture
def changed_dom0() -> Iterator[None]:
    """The scripts give pages to dom0 that nobody has any use for, and pin its process to a cpu."""
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("changed_dom0")
@pytest.mark.parametrize("script", sorted({*callscripts.names()} - WITH_POOLS))
def test_same_outcomes_as_recorded(xen: pyxc.Xen, script: str) -> None:
    same_outcomes(xen, script)


@pytest.mark.usefixtures("changed_dom0", "free_cpu")
@pytest.mark.parametrize("script", sorted(WITH_POOLS - {callscripts.LAST}))
def test_same_outcomes_of_pools(xen: pyxc.Xen, script: str) -> None:
    same_outcomes(xen, script)


@pytest.mark.usefixtures("changed_dom0", "changed_xen", "free_cpu")
def test_same_outcomes_of_the_last_script(xen: pyxc.Xen) -> None:
    same_outcomes(xen, callscripts.LAST)


def same_outcomes(xen: pyxc.Xen, script: str) -> None:
    """A script that was not recorded on this kind of Xen still has to run to its end."""
    release = callscripts.release(xen)
    outcomes = json.loads(json.dumps(callscripts.run(script, xen, release)))
    path = RECORDINGS / release / f"{script}.outcomes.json"
    if not path.exists():
        pytest.skip(f"ran to its end; there is no recording on {release} to compare it with")
    recorded = json.loads(path.read_text())
    different = callscripts.differences(recorded, outcomes)
    assert not different, pformat(different)
