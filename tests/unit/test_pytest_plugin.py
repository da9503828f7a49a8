# SPDX-License-Identifier: MIT
"""The fixtures that pytest has where pyxc is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyxc_pytest

SUITE = """
import sys

early = [name for name in sys.modules if name.partition(".")[0] == "pyxc"]

import pytest


def test_pyxc_is_imported_only_when_needed():
    assert early == []


def test_a_program_opens_the_host(sim_host, xen, monkeypatch):
    import pyxc

    monkeypatch.setenv("PYXC_TARGET", "sim:xen-4.4")
    with pyxc.open() as opened:
        assert opened.version[:2] == (4, 4)
    monkeypatch.delenv("PYXC_TARGET")
    with pyxc.open() as opened:
        opened.domains["web1"].pause()
    assert sim_host.domains[1].pauses == 1
    assert xen.domains["web1"].info().paused
    with pyxc.open_store() as store:
        assert store.read("/local/domain/1/name") == b"web1"
    with pyxc.open("sim:xen-4.20") as other:
        assert not other.domains["web1"].info().paused


@pytest.mark.sim_host("sim:xen-4.14", "sim:ppc64", with_guests=False)
def test_it_runs_on_each(xen, sim_target):
    assert sim_target in ("sim:xen-4.14", "sim:ppc64") and list(xen.domains) == [0]


def test_calls_fail(sim_link):
    import pyxc
    from pyxc.abi import domctl

    sim_link.fail(domctl.PAUSEDOMAIN, 1)
    for expected in (pyxc.PermissionDenied, None):
        with pyxc.open() as opened:
            if expected:
                with pytest.raises(expected):
                    opened.domains["web1"].pause()
            else:
                opened.domains["web1"].pause()
"""


def test_a_suite_uses_it(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-markers -p no:cacheprovider\nsim_hosts = sim:xen-4.17 sim:xen-4.22\n"
    )
    places = os.pathsep.join([str(Path(pyxc_pytest.__file__).parent), *filter(None, sys.path)])
    environment = {
        **os.environ, "PYTHONPATH": places, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "",
        "PYTEST_PLUGINS": "pyxc_pytest",
    }  # fmt: skip
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", tmp_path], cwd=tmp_path, env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "7 passed in" in finished.stdout, finished.stdout + finished.stderr
