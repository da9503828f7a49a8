# SPDX-License-Identifier: MIT
"""Every operation and every mistake on this Xen, against what was recorded on one of the same release."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from pprint import pformat
from typing import Any

import callscript
import pytest

import pyxc

RECORDINGS = Path(__file__).parent.parent / "recordings"
# Ids of new domains depend on how many there were before.
IDS = {"domid", "domain", "dom", "domain_id", "remote_dom"}


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
    different = callscript.differences(_without_ids(recorded), _without_ids(outcomes))
    assert not different, pformat(different)


def _without_ids(outcomes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        step: {**outcome, "fields": _kept(outcome.get("fields", {}))} for step, outcome in outcomes.items()
    }


def _kept(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in IDS}
