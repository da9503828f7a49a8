# SPDX-License-Identifier: MIT
"""A process that is killed before any step: what it left is listed, can be removed as the list says, and does
not keep the next one from doing its work.

From the step of its death on nothing of the process reaches the host, neither errors nor undoing. (Of files
tests/unit/files/test_parts.py and tests/cli/test_cli_doctor.py kill real processes.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from emulation import needs_the_kernel
from operations import OPERATIONS, Trial
from steps import INTERRUPT_BEFORE, WHOLE, differences, state

import pyxc
from pyxc import opening, sim
from pyxc.cli import main
from pyxc.domain import memory
from pyxc.domain.leftovers import Leftover
from pyxc.sim.xenstored.listener import Listener

RUNNING = 2
"""A guest that writes into its memory."""
PARTLY_DONE = (
    "launch", "launch, devices", "launch, pv", "domain.destroy, launched", "devices.attach_disk",
    "memory.decrease", "pool.destroy", "pool.destroy, cpus", "pool.remove_cpu", "pools.split",
    "memory.unmap_mmio",
    "xen.receive", "xen.restore, devices", "livepatches.load",
    "domain.save, live", "domain.save, resume", "domain.save, pv", "domain.save, pv, resume",
)  # fmt: skip
"""What cannot be done again: some of it, or all but its tidying up, is done, so that a name is taken, or
log-dirty mode is on, which has to be disabled first."""
STAYS_UNSEEN = {
    "memory.populate": "memory of a domain that is listed as an orphan already",
    "memory.populate, pv": "the same",
    "memory.increase": "the same",
    "memory.decrease": "the same",
    "memory.map_mmio": "frames of a device in a domain that is listed as an orphan already",
    "memory.unmap_mmio": "the same",
    "domain.resume": "a suspended guest that was given some of its registers",
    "domain.resume, fast": "the same",
    "domain.save, resume": "the same",
    "ask.set_memory": "a limit of memory",
    "domain.save, pv, resume": "a guest that knows that its suspend was cancelled",
    "devices.attach_disk": "nodes of a device of a guest, which its end will remove",
    "devices.attach_vif": "the same",
    "devices.detach": "the same",
    "trace_buffers.record": "tracing as long as nothing happens",
    "domain.set_scheduling": "times of some vcpus",
    "pools.split": "pools with their names, and free cpus",
    "pool.destroy, cpus": "free cpus",
    "domain.dump_core, running": "a paused domain that is listed as an orphan already",
    "template.revert": "the same, partly reverted",
    "livepatches.load": "a live patch that was not applied, as `pyxc livepatch list` says",
    "ask.poweroff": "a request that the guest may take",
}
"""What changed and is no leftover that anybody could see, as docs/errors.md says."""


def _steps(count: int) -> list[int]:
    return list(range(count)) if WHOLE else sorted({*range(min(count, 5)), count // 2, count - 1})


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(memory, "_BATCH", 64)


def _again(xen: pyxc.Xen, subject: Any) -> Any:
    """The same domain or pool, for another process."""
    if isinstance(subject, pyxc.Domain):
        return xen.domains[subject.domid]
    return xen.pools[subject.pool_id] if isinstance(subject, pyxc.Pool) else subject


def _remove(xen: pyxc.Xen, left: Leftover) -> None:
    remedy = left.remedy.partition(", ")[0]
    if remedy.startswith("pyxc "):
        assert main(["--target=sim:", *remedy.split()[1:]]) == 0, remedy
    else:
        eval(remedy, {"xen": xen})


def _after_death(trial: Trial, before: set[Leftover]) -> list[str]:
    """What is wrong once another process has come."""
    name, wrong = trial.name, []
    then = state(trial.host)
    trial.host.write_as_guest(RUNNING, 0x100, 0, b"it runs on")
    with pyxc.connect(trial.host.connect()) as xen:
        left = [one for one in xen.leftovers() if one not in before]
        changed = differences(trial.before, then)
        if changed and then != trial.after and not left and name not in STAYS_UNSEEN:
            wrong.append(f"nobody can see {changed}")
        for one in left:
            if one in xen.leftovers():  # it may have gone with its domain
                _remove(xen, one)
        wrong += [f"still there: {one}" for one in xen.leftovers() if one in left]
        if then != trial.after and name not in PARTLY_DONE:
            try:
                trial.operation.act(xen, _again(xen, trial.subject), trial.path)
            except (pyxc.Error, OSError, KeyError) as error:
                wrong.append(f"the next one is blocked: {error!r}")
    return wrong


@pytest.mark.filterwarnings("ignore:domains are shown without names:RuntimeWarning")
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_next_run_says_what_is_left(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = OPERATIONS[name]
    whole = Trial(operation, tmp_path)
    assert whole.run({}) is None
    taken, after = whole.steps.taken, whole.end()
    wrong = []
    for step in _steps(taken):
        trial = Trial(operation, tmp_path)
        trial.name, trial.after = name, after
        before = set(trial.xen.leftovers())
        trial.run({step: INTERRUPT_BEFORE}, INTERRUPT_BEFORE)
        monkeypatch.setattr(opening, "open_link", lambda *_, host=trial.host: host.connect())
        wrong += [f"killed before step {step}: {one}" for one in _after_death(trial, before)]
        trial.xen.link.close()
    assert wrong == []


CLIENT = """
import signal, sys, time
import pyxc
store = pyxc.open_store()
watch = store.watch("/local/domain/1")
tx = store.begin()
tx.write("/tool/half", "done")
print("in the middle", flush=True)
time.sleep(60)
"""


@needs_the_kernel
def test_xenstored_ends_what_a_killed_client_began(
    start: Any, plain_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real process with a transaction and a watch, killed by SIGKILL; the next one is not held up."""
    host = sim.Hypervisor(sim.named("sim:"))
    monkeypatch.setenv("XENSTORED_PATH", str(plain_directory / "socket"))
    with Listener(host.store, plain_directory / "socket"):
        client = start(sys.executable, "-c", CLIENT, stdout=subprocess.PIPE)
        assert client.stdout.readline() == "in the middle\n"
        (session,) = [one for one in host.store.sessions if one.transactions]
        assert session.watches
        os.kill(client.pid, signal.SIGKILL)
        client.wait()
        with pyxc.open_store() as store:
            store.transact(lambda tx: tx.write("/tool/half", "whole"))
            assert store.read("/tool/half") == b"whole"
        deadline = time.monotonic() + 60
        while session in host.store.sessions and time.monotonic() < deadline:
            time.sleep(0)
        assert session not in host.store.sessions
