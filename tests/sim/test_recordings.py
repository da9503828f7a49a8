# SPDX-License-Identifier: MIT
"""What real hypervisors said, recorded: the library still understands it, and the simulator says the same."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import callscripts
import pytest
from callscripts import Outcomes

import pyxc
from pyxc import sim
from pyxc.link.record import RecordLink
from pyxc.link.replay import ReplayError, ReplayLink
from pyxc.sim import Hypervisor

RECORDINGS = Path(__file__).parent.parent / "recordings"
RECORDED = sorted(directory.name for directory in RECORDINGS.iterdir())
BUILD_CALLS = RECORDINGS / "xen-4.17" / "build.calls"
NOT_RECORDED_RELEASES = sorted({target.removeprefix("sim:") for target in sim.PROFILES} - set(RECORDED))
WITH_HAP = (3, 3)
NEWER_SCRIPTS = {
    "attributes": (4, 10),
    "building": (4, 0),
    "devices": (4, 6),
    "host": (4, 6),
    "memory": (4, 0),
    "pools": (4, 5),
    "rtds": (4, 10),
    "scheduling": (4, 12),
    "vcpus": (4, 5),
}
"""Since when Xen has all structures that a script asks for; the others want a domain with HAP."""
NO_FREQUENCIES = "an emulated machine has none: only the refusals are recorded"
NO_PATCH = "no live patch is built for the lab's hypervisors: only the refusals are recorded"
NO_PROFILE = "none of the lab's hypervisors profiles its locks: this follows Xen's sources"
NOT_RECORDED = {
    "sysctl.lockprof_op_query": NO_PROFILE,
    "sysctl.lockprof_op_reset": NO_PROFILE,
    "sysctl.get_pmstat_max_px": NO_FREQUENCIES,
    "sysctl.get_pmstat_pxstat": NO_FREQUENCIES,
    "sysctl.pm_op_get_para": NO_FREQUENCIES,
    "sysctl.pm_op_set_gov": NO_FREQUENCIES,
    "sysctl.pm_op_set_para": NO_FREQUENCIES,
    "sysctl.pm_op_enable_turbo": NO_FREQUENCIES,
    "sysctl.pm_op_disable_turbo": NO_FREQUENCIES,
    "sysctl.pm_op_set_max_cstate": "no script changes how the whole host idles",
    "sysctl.livepatch_op_get": NO_PATCH,
    "sysctl.livepatch_op_upload": NO_PATCH,
    "sysctl.livepatch_op_action": NO_PATCH,
    "xsm_op.load": "the suite in dom0 loads the hypervisor's own policy, which is not ours to copy",
    "hvm_op.get_mem_type": "tests/real/test_attributes.py compares it with log-dirty mode on a real Xen",
    "domctl.get_domain_state": "since 4.21: tests/real/test_domains.py needs it on a newer hypervisor file",
    "domctl.getmemlist": "Xen had it up to 4.10 only",
    "domctl.getpageframeinfo2": "Xen had it up to 4.5 only",
    "sysctl.topologyinfo": "Xen had it from 4.1 to 4.5 only",
    **dict.fromkeys(
        (
            "domctl.get_ext_vcpucontext",
            "domctl.set_ext_vcpucontext",
            "domctl.get_vcpu_msrs",
            "domctl.set_vcpu_msrs",
            "domctl.getvcpuextstate",
            "domctl.setvcpuextstate",
            "mmuext_op.pin_l1_table",
            "mmuext_op.pin_l2_table",
        ),
        "a script has no guest that runs: tests/real/test_moves.py restores one, with xl, too",
    ),
    "domctl.debug_op": "the lab's processors have no monitor trap flag",
    **dict.fromkeys(
        ("domctl.gdbsx_pausevcpu", "domctl.gdbsx_unpausevcpu", "domctl.gdbsx_domstatus"),
        "a script has no guest that runs: tests/real/test_peer_debugging.py debugs one",
    ),
    **dict.fromkeys(
        (
            "domctl.assign_device",
            "domctl.test_assign_device",
            "domctl.deassign_device",
            "domctl.get_device_group",
        ),
        "the lab's machines have no IOMMU: what is recorded are refusals",
    ),
    **dict.fromkeys(
        (
            "sysctl.tbuf_op_get_info",
            "sysctl.tbuf_op_set_cpu_mask",
            "sysctl.tbuf_op_set_evt_mask",
            "sysctl.tbuf_op_set_size",
            "sysctl.tbuf_op_enable",
            "sysctl.tbuf_op_disable",
        ),
        "Xen keeps trace buffers until the next boot, and a script has to leave things as they were",
    ),
    **{
        name: "no Xen of 2006 can run a dom0 any more: its bytes are tested against its header"
        for name in sim.operations()
        if name.startswith("dom0_op.")
    },
}
"""Operations that no recorded hypervisor carried out, and why."""

each_script = pytest.mark.parametrize("script", callscripts.names())
each_recording = pytest.mark.parametrize(
    ("release", "script"),
    [(release, path.stem) for release in RECORDED for path in sorted((RECORDINGS / release).glob("*.calls"))],
)
OUTCOMES_ONLY = {"xen-4.22"}
"""Releases of which no calls are kept: they ran elsewhere, and cannot be recorded again with a script."""


def recorded(release: str, script: str) -> Outcomes:
    path = RECORDINGS / release / f"{script}.outcomes.json"
    outcomes: Outcomes = json.loads(path.read_text(encoding="ascii"))
    return outcomes


def run_on(link: Any, script: str, release: str) -> Outcomes:
    """A script's outcomes, in the form in which they are written down."""
    with pyxc.connect(link, names=False) as xen:
        outcomes: Outcomes = json.loads(json.dumps(callscripts.run(script, xen, release)))
    return outcomes


def simulated(release: str, script: str) -> Outcomes:
    return run_on(Hypervisor(sim.named(f"sim:{release}"), with_guests=False).connect(), script, release)


@each_recording
def test_a_recorded_hypervisor_is_understood(release: str, script: str) -> None:
    with (RECORDINGS / release / f"{script}.calls").open(encoding="ascii") as calls:
        outcomes = run_on(ReplayLink(calls), script, release)
    assert callscripts.differences(outcomes, recorded(release, script)) == {}


@each_recording
def test_the_simulator_does_what_the_real_one_did(release: str, script: str) -> None:
    assert callscripts.differences(simulated(release, script), recorded(release, script)) == {}


@pytest.mark.parametrize(
    ("release", "script"),
    [
        (release, path.name.partition(".")[0])
        for release in sorted(OUTCOMES_ONLY)
        for path in sorted((RECORDINGS / release).iterdir())
    ],
)
def test_the_simulator_does_what_a_real_one_did_elsewhere(release: str, script: str) -> None:
    """As far as the script had the steps then; it may have got more since."""
    then = recorded(release, script)
    now = {step: outcome for step, outcome in simulated(release, script).items() if step in then}
    assert callscripts.differences(now, then) == {}


@pytest.mark.parametrize("release", RECORDED)
def test_every_recording_has_its_script(release: str) -> None:
    """And every script its recording; of another build, or one not at hand, those that somebody made."""
    stems = {path.name.partition(".")[0] for path in (RECORDINGS / release).iterdir()}
    assert stems <= set(callscripts.names())
    assert stems == set(callscripts.names()) or release.endswith("-xsm") or release in OUTCOMES_ONLY


@pytest.mark.parametrize("release", RECORDED)
def test_recordings_have_calls_that_replay(release: str) -> None:
    stems = {path.stem for path in (RECORDINGS / release).glob("*.calls")}
    outcomes = {path.name.removesuffix(".outcomes.json") for path in (RECORDINGS / release).glob("*.json")}
    assert stems == (set() if release in OUTCOMES_ONLY else outcomes)


def has_what_is_asked(release: str, script: str) -> bool:
    since = NEWER_SCRIPTS.get(script, WITH_HAP)
    return sim.named(f"sim:{release}").since(*since)


@pytest.mark.parametrize(
    ("release", "script"),
    [
        (release, script)
        for release in NOT_RECORDED_RELEASES
        for script in callscripts.names()
        if has_what_is_asked(release, script)
    ],
)
def test_the_scripts_run_to_their_end_on_releases_that_are_not_recorded(release: str, script: str) -> None:
    simulated(release, script)


@pytest.mark.parametrize(
    "release", [release for release in NOT_RECORDED_RELEASES if has_what_is_asked(release, "lifecycle")]
)
def test_domains_end_on_releases_that_are_not_recorded(release: str) -> None:
    outcomes = simulated(release, "lifecycle")
    assert outcomes["domctl.destroydomain/success"]["result"] == 0
    assert outcomes["domctl.destroydomain/dom0 itself"] == {"errno": 22, "kind": "HypercallError"}


def test_every_simulated_operation_was_recorded() -> None:
    succeeded = {
        step.partition("/")[0]
        for release in RECORDED
        for path in (RECORDINGS / release).glob("*.outcomes.json")
        for step, outcome in recorded(release, path.name.removesuffix(".outcomes.json")).items()
        if step.endswith("/success") and "errno" not in outcome
    }
    assert sim.operations() - succeeded == set(NOT_RECORDED)


def test_what_is_recorded_can_be_replayed() -> None:
    stream = io.StringIO()
    hypervisor = Hypervisor(sim.named("sim:xen-4.20"), with_guests=False)
    outcomes = run_on(RecordLink(hypervisor.connect(), stream), "memory", "xen-4.20")
    assert run_on(ReplayLink(stream.getvalue().splitlines()), "memory", "xen-4.20") == outcomes


def test_a_big_endian_hypervisor_is_recorded_without_addresses() -> None:
    """Two handles that are open at once have their memory in different places."""
    streams = [io.StringIO(), io.StringIO()]
    links = [RecordLink(sim.connect("sim:ppc64"), stream) for stream in streams]
    handles = [pyxc.connect(link, names=False) for link in links]
    told = [(xen.domains.infos(), xen.domains[1].memory.frames()) for xen in handles]
    for xen in handles:
        xen.close()
    first, second = (stream.getvalue() for stream in streams)
    assert first == second
    with pyxc.connect(ReplayLink(first.splitlines()), names=False) as xen:
        assert (xen.domains.infos(), xen.domains[1].memory.frames()) == told[0] == told[1]


def test_a_recording_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format 2: expected 1"):
        ReplayLink(['{"format": 2}'])


def test_another_question_than_the_recorded_one_is_an_error() -> None:
    calls = BUILD_CALLS.read_text(encoding="ascii").splitlines()
    with pyxc.connect(ReplayLink(calls), names=False) as xen, pytest.raises(ReplayError, match="asked"):
        xen.physinfo()


def test_a_recording_ends() -> None:
    calls = BUILD_CALLS.read_text(encoding="ascii").splitlines()[:6]
    with pyxc.connect(ReplayLink(calls), names=False) as xen, pytest.raises(ReplayError, match="has ended"):
        xen.physinfo()
