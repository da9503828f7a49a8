# SPDX-License-Identifier: MIT
"""What a hypervisor says of itself, read at once."""

from __future__ import annotations

import errno

import pytest
from hosts import HostLink

import pyxc
from pyxc import errors
from pyxc.abi.operation import MULTICALL
from pyxc.sim import PROFILES, Hypervisor, named


def link_to(truth: Hypervisor) -> HostLink:
    return HostLink(truth, truth.interface, "sim:")


FACTS = ("version", "capabilities", "commandline", "virt_start", "build")


@pytest.mark.parametrize("profile", PROFILES)
def test_facts_read_at_once_are_those_read_one_by_one(profile: str) -> None:
    link = link_to(Hypervisor(named(profile)))
    with pyxc.connect(link) as xen, pyxc.open(profile) as known:
        before = link.hypercalls
        xen.read_facts()
        found = [getattr(xen, name) for name in FACTS]
        assert link.hypercalls == before + 1
        assert found == [getattr(known, name) for name in FACTS]
        assert link.pool.outstanding == 0


def test_a_trace_shows_each(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYXC_TRACE", "1")
    with pyxc.open("sim:xen-4.17") as xen:
        xen.read_facts()
    shown = capsys.readouterr().err
    for name in ("version", "compile_info", "changeset", "build_id"):
        assert f"xen_version.{name}" in shown


def test_a_multicall_that_fails_is_an_error_and_nothing_is_kept() -> None:
    link = link_to(Hypervisor(named("sim:xen-4.17")))
    with pyxc.connect(link) as xen:
        link.fail(MULTICALL, errno.ENOMEM)
        with pytest.raises(errors.HypercallError, match="ENOMEM"):
            xen.read_facts()
        assert xen.version.major == 4
