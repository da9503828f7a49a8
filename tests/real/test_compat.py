# SPDX-License-Identifier: MIT
"""pyxc.compat.xc on every hypervisor, also where libxc's binding cannot run: each method does its work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from compat_scripts import SCRIPTS
from differential import Event, Script, Side, World

import pyxc
from pyxc.compat import xc as ours

CALLED: dict[str, list[Event]] = {}
REFUSED_HERE = {
    "dom_set_memshr", "get_device_group", "test_assign_device", "assign_device", "deassign_device",
    "physdev_pci_access_modify",
}  # fmt: skip
"""What no hypervisor of the lab can do; FLASK is only in one."""
ERRORS = {"", "Error", "TypeError", "OverflowError"}


@pytest.fixture
def world(xen: pyxc.Xen, pv: pyxc.Domain) -> World:
    return World(xen, pv.domid, pv.domid)


@pytest.mark.usefixtures("unguarded", "free_cpu")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_scripts(world: World, script: Script) -> None:
    side = Side(ours, "ours", world)
    try:
        script(side)
    finally:
        side.clean()
    for event in side.events:
        assert event.outcome.error in ERRORS, event
        CALLED.setdefault(event.method, []).append(event)


def test_programs_find_it_as_xen_lowlevel(xen: pyxc.Xen) -> None:
    """Where its package is installed: they import what they always did."""
    code = "from xen.lowlevel import xc; print(xc.Error.__module__, xc.xc().physinfo()['nr_cpus'])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["pyxc.compat.xc", str(xen.nr_cpus)]


def test_core_dump(pvh: pyxc.Domain, tmp_path: Path) -> None:
    pvh.memory.populate(range(64))
    path = tmp_path / "core"
    ours.xc().domain_dumpcore(pvh.domid, str(path))
    assert path.read_bytes()[:5] == b"\x7fELF\x02"
    assert path.stat().st_size > 64 * 4096


def test_every_method_did_its_work(xen: pyxc.Xen) -> None:
    done = {name for name, events in CALLED.items() if any(not event.outcome.error for event in events)}
    every = {name for name in dir(ours.xc) if not name.startswith("_")}
    gone = {name for name in every if (getattr(ours.xc, name).__doc__ or "").startswith("Raise Error")}
    flask = {name for name in every if name.startswith("flask_")}
    wanted = every - gone - REFUSED_HERE - {"domain_dumpcore", "domain_set_policy_cpuid"}
    without = {"flask_load"} if xen.flask.present and "PYXC_POLICY" not in os.environ else set()
    assert wanted - done - (without if xen.flask.present else flask) == set()
