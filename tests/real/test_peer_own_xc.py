# SPDX-License-Identifier: MIT
"""Xen's own xen.lowlevel.xc beside pyxc's, on one hypervisor: every method, key by key."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compat_scripts import SCRIPTS, core
from differential import Report, Script, Side, World, methods
from ground_truth import Guests, Peer

import pyxc
from pyxc.compat import xc as ours

RESULTS = Path("/results/differential.txt")

NOT_COMPARED = {
    "dom_set_memshr": "Debian's Xen is built without memory sharing",
    "get_device_group": "no IOMMU in this machine",
    "test_assign_device": "no IOMMU in this machine",
    "assign_device": "no IOMMU in this machine",
    "deassign_device": "no IOMMU in this machine",
    "physdev_pci_access_modify": "libxc has no such call any more: it always fails",
}


@pytest.fixture(scope="module")
def theirs(peer: Peer) -> Any:
    """Xen's own module, without its package: a process may have pyxc's under that name."""
    if sys.maxsize < 2**32:
        pytest.skip("Xen's own module is for a 64-bit Python")
    (path,) = peer.root.glob("usr/lib/xen-*/lib/python/xen/lowlevel/xc.*.so")
    spec = importlib.util.spec_from_file_location("xc", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report(theirs: Any) -> Iterator[Report]:
    made = Report(NOT_COMPARED)
    yield made
    made.write(RESULTS, methods(theirs))


@pytest.mark.usefixtures("unguarded", "free_cpu")
@pytest.mark.parametrize("script", [*SCRIPTS, core], ids=lambda script: script.__name__)
def test_scripts(report: Report, theirs: Any, xen: pyxc.Xen, guests: Guests, script: Script) -> None:
    world = World(xen, guests.domids["pv"], guests.domids["linux"])
    report.run(Side(theirs, "theirs", world), Side(ours, "ours", world), script)


def test_credit2_keeps_the_cap(theirs: Any, xen: pyxc.Xen) -> None:
    """A weight alone takes a domain's cap away with the original, and leaves it alone with ours."""
    domain = xen.domains.create()
    try:
        mine, original = ours.xc(), theirs.xc()
        mine.sched_credit2_domain_set(domain.domid, 256, 50)
        mine.sched_credit2_domain_set(domain.domid, weight=300)
        assert mine.sched_credit2_domain_get(domain.domid) == {"weight": 300, "cap": 50}
        original.sched_credit2_domain_set(domain.domid, weight=256)
        assert mine.sched_credit2_domain_get(domain.domid) == {"weight": 256, "cap": 0}
    finally:
        domain.destroy()


def test_every_method_was_compared_or_has_a_reason(report: Report, theirs: Any) -> None:
    assert [method for method in methods(theirs) if not report.verdict(method)] == []
    assert set(methods(theirs)) <= set(dir(ours.xc))
