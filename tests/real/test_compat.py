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
ELSEWHERE = {"domain_dumpcore", "domain_set_policy_cpuid", "getBitSize", "linux_build"}
"""What has a test of its own, or only raises an error."""
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


@pytest.mark.needs_xen(4, 10)
def test_a_kernel_is_built_like_xend_did(xen: pyxc.Xen, world: World) -> None:
    """It runs, prints and ends by itself."""
    libxc, kernel = ours.xc(), str(Path(os.environ["PYXC_GUESTS"]) / "pv")
    assert libxc.getBitSize(kernel, "", "") == {"type": "xen-3.0-x86_64"}
    domid = libxc.domain_create(ssidref=world.ssidref, handle=list(range(1, 17)))
    try:
        libxc.domain_max_vcpus(domid, 1)
        libxc.domain_setmaxmem(domid, 17 << 10)
        store, console = libxc.evtchn_alloc_unbound(domid, 0), libxc.evtchn_alloc_unbound(domid, 0)
        built = libxc.linux_build(domid, store, 16, console, kernel, cmdline="mpq")
        libxc.domain_unpause(domid)
        assert xen.domains[domid].wait_shut_down(timeout=60) is pyxc.ShutdownReason.POWEROFF
        assert (
            xen.domains[domid].memory.read(built["console_mfn"])[1024:].startswith(b"pyxc PV guest: line 1")
        )
    finally:
        libxc.domain_destroy(domid)


def test_every_method_did_its_work(xen: pyxc.Xen) -> None:
    done = {name for name, events in CALLED.items() if any(not event.outcome.error for event in events)}
    every = {name for name in dir(ours.xc) if not name.startswith("_")}
    gone = {name for name in every if (getattr(ours.xc, name).__doc__ or "").startswith("Raise Error")}
    flask = {name for name in every if name.startswith("flask_")}
    wanted = every - gone - REFUSED_HERE - ELSEWHERE
    without = {"flask_load"} if xen.flask.present and "PYXC_POLICY" not in os.environ else set()
    assert wanted - done - (without if xen.flask.present else flask) == set()
