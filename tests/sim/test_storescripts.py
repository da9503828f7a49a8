# SPDX-License-Identifier: MIT
"""What the real xenstored said, recorded: the simulated one says the same on hosts of any release."""

from __future__ import annotations

import json

import pytest
from storescripts import client, compat, differences, recorded

import pyxc
from pyxc import sim
from pyxc.compat import target, xs
from pyxc.sim.xenstored.request import HANDLERS
from pyxc.store import Kind

DEPTH = {"watch", "watch with more"}
"""Steps in which what follows the token of a watch is its depth since Xen 4.22; the recording is of 4.17."""


@pytest.mark.parametrize("target", ["sim:xen-4.14", "sim:xen-4.17", "sim:xen-4.22"])
def test_the_simulated_daemon_does_what_the_real_one_did(target: str) -> None:
    with pyxc.connect(sim.connect(target), names=False) as xen:
        outcomes = json.loads(json.dumps(client.run(xen)))
    newer = DEPTH if target == "sim:xen-4.22" else set()
    assert differences(outcomes, recorded("client")).keys() == newer


def test_the_module_for_old_programs_does_what_xens_own_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYXC_TARGET", "sim:")
    target.host.cache_clear()
    assert differences(compat.run(xs), recorded("compat")) == {}


def test_every_request_that_is_simulated_was_recorded() -> None:
    steps = recorded("client")
    assert {Kind(kind).operation for kind in HANDLERS} - {
        kind.operation for kind in Kind if f"{kind.operation} of an unknown transaction" in steps
    } == {"reset_watches", *(kind.operation for kind in client.UNRECORDED)}
    assert steps["reset"] == "b'OK\\x00'"
