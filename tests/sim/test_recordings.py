# SPDX-License-Identifier: MIT
"""What real hypervisors said, recorded: the library still understands it, and the simulator says the same."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import callscript
import pytest

import pyxc
from pyxc import sim
from pyxc.link.record import RecordLink
from pyxc.link.replay import ReplayError, ReplayLink
from pyxc.sim import Hypervisor

RECORDINGS = Path(__file__).parent.parent / "recordings"
RECORDED = ("xen-4.14", "xen-4.17", "xen-4.20")
OLDEST_AND_NEWEST = ("xen-4.10", "xen-4.22")
NOT_RECORDED = {
    "domctl.getmemlist": "Xen had it up to 4.10 only",
}
"""Operations that no recorded hypervisor carried out, and why."""

Outcomes = dict[str, dict[str, Any]]


def recorded(name: str) -> Outcomes:
    outcomes: Outcomes = json.loads((RECORDINGS / f"{name}.outcomes.json").read_text(encoding="ascii"))
    return outcomes


def run_on(link: Any) -> Outcomes:
    """The script's outcomes, in the form in which they are written down."""
    with pyxc.connect(link, names=False) as xen:
        outcomes: Outcomes = json.loads(json.dumps(callscript.run(xen)))
    return outcomes


def simulated(name: str) -> Outcomes:
    return run_on(Hypervisor(sim.named(f"sim:{name}"), with_guests=False).connect())


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_hypervisor_is_understood(name: str) -> None:
    with (RECORDINGS / f"{name}.calls").open(encoding="ascii") as calls:
        outcomes = run_on(ReplayLink(calls))
    assert callscript.differences(outcomes, recorded(name)) == {}


@pytest.mark.parametrize("name", RECORDED)
def test_the_simulator_does_what_the_real_one_did(name: str) -> None:
    assert callscript.differences(simulated(name), recorded(name)) == {}


@pytest.mark.parametrize("name", OLDEST_AND_NEWEST)
def test_the_script_runs_to_its_end_on_releases_that_are_not_recorded(name: str) -> None:
    outcomes = simulated(name)
    assert outcomes["domctl.destroydomain/success"]["result"] == 0
    assert outcomes["domctl.destroydomain/dom0 itself"] == {"errno": 22, "kind": "HypercallError"}


def test_every_simulated_operation_was_recorded() -> None:
    succeeded = {
        step.partition("/")[0]
        for name in RECORDED
        for step, outcome in recorded(name).items()
        if step.endswith("/success") and "errno" not in outcome
    }
    assert sim.operations() - succeeded == set(NOT_RECORDED)


def test_what_is_recorded_can_be_replayed() -> None:
    stream = io.StringIO()
    hypervisor = Hypervisor(sim.named("sim:xen-4.20"), with_guests=False)
    outcomes = run_on(RecordLink(hypervisor.connect(), stream))
    assert run_on(ReplayLink(stream.getvalue().splitlines())) == outcomes


def test_a_recording_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format 2, 1 is known"):
        ReplayLink(['{"format": 2}'])


def test_another_question_than_the_recorded_one_is_an_error() -> None:
    calls = (RECORDINGS / "xen-4.17.calls").read_text(encoding="ascii").splitlines()
    with pyxc.connect(ReplayLink(calls), names=False) as xen, pytest.raises(ReplayError, match="asked"):
        xen.physinfo()


def test_a_recording_ends() -> None:
    calls = (RECORDINGS / "xen-4.17.calls").read_text(encoding="ascii").splitlines()[:6]
    with pyxc.connect(ReplayLink(calls), names=False) as xen, pytest.raises(ReplayError, match="at its end"):
        xen.physinfo()
