# SPDX-License-Identifier: MIT
"""A dom0 without xenstored: the device takes requests and never answers."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import pytest
from ground_truth import STORE_SOCKET, Command

import pyxc

GIVE_UP = (
    "pyxc: warning: domains are shown without names: nothing replies on xenstore: is xenstored running?\n"
)
SCRIPT = """
import json, time, warnings, pyxc
took = []
with warnings.catch_warnings(record=True) as warned, pyxc.open() as xen, pyxc.open() as other:
    warnings.simplefilter("always")
    for handle in (xen, xen, other):
        started = time.monotonic()
        name = handle.domains[0].name
        took.append(time.monotonic() - started)
print(json.dumps([name, took, [str(warning.message) for warning in warned]]))
"""


@pytest.fixture(autouse=True)
def _without_xenstored() -> None:
    assert not STORE_SOCKET.exists(), "these tests need a dom0 in which xenstored does not run"


def test_given_up_after_a_second_once_per_process_with_one_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    name, took, warned = json.loads(done.stdout)
    assert name is None
    assert took[0] >= 0.9
    assert max(took[1:]) < took[0] / 2
    assert len(warned) == 1


def test_a_watch_is_given_up_too() -> None:
    """The kernel's device would wait for ever, in a way that no signal ends."""
    with pyxc.StoreClient(timeout=1) as store, pytest.raises(pyxc.StoreError, match="nothing replies"):
        store.watch("/local")


def test_command_lists_with_one_warning(pyxc_command: Command, pv: pyxc.Domain, pvh: pyxc.Domain) -> None:
    done = pyxc_command("list")
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [
        ["(null)", str(domid)] for domid in (0, pv.domid, pvh.domid)
    ]
    assert done.stderr == GIVE_UP


def test_no_names_needs_no_time(pyxc_command: Command) -> None:
    """Of the time that a command takes, what it does not compute is what it waits."""

    def waited(*options: str) -> tuple[float, str]:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        said = pyxc_command("list", *options).stderr
        elapsed, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        return elapsed - (after.ru_utime - before.ru_utime) - (after.ru_stime - before.ru_stime), said

    with_names, _ = waited()
    assert with_names > 0.9
    without, said = waited("--no-names")
    assert without < with_names / 2
    assert said == ""
