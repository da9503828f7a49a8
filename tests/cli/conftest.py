# SPDX-License-Identifier: MIT
"""Runs the command in this process, on simulated hosts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from pyxc import opening, sim
from pyxc.cli import main


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Pyxc = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYXC_TARGET", raising=False)
    monkeypatch.delenv("PYXC_TRACE", raising=False)


@pytest.fixture
def pyxc(capsys: pytest.CaptureFixture[str]) -> Pyxc:
    """The command, run as pyxc("list", "web1"); answers status, output and errors."""

    def run(*words: str) -> Outcome:
        status = main(words)
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> sim.Hypervisor:
    """One simulated Xen 4.17 that all runs of the command in a test share, as a real host would be."""
    hypervisor = sim.Hypervisor(sim.named("sim:xen-4.17"))
    monkeypatch.setattr(opening, "open_link", lambda target, gate: hypervisor.connect("sim:xen-4.17"))
    return hypervisor
