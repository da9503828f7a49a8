# SPDX-License-Identifier: MIT
"""The host and its hypervisor, against what the kernel of dom0 says in /sys/hypervisor."""

from __future__ import annotations

import os

from ground_truth import HYPERVISOR, online_cpus

import pyxc
from pyxc import Capability


def _told(path: str) -> str:
    return (HYPERVISOR / path).read_text().strip()


def test_version(xen: pyxc.Xen) -> None:
    assert (str(xen.version.major), str(xen.version.minor)) == (
        _told("version/major"),
        _told("version/minor"),
    )
    assert xen.version.extra == _told("version/extra")
    assert xen.interface.xen == (xen.version.major, xen.version.minor)


def test_lane_runs_the_hypervisor_that_it_names(xen: pyxc.Xen) -> None:
    running = f"{xen.version.major}.{xen.version.minor}"
    assert os.environ.get("PYXC_RELEASE", running) == running


def test_capabilities(xen: pyxc.Xen) -> None:
    assert list(xen.capabilities) == _told("properties/capabilities").split()
    hvm = any(name.startswith("hvm-") for name in xen.capabilities)
    assert (Capability.HVM in xen.platform) == hvm


def test_build(xen: pyxc.Xen) -> None:
    build = xen.build
    assert build.compiler == _told("compilation/compiler")
    assert build.compile_by == _told("compilation/compiled_by")
    assert build.compile_date == _told("compilation/compile_date")
    assert build.changeset == _told("properties/changeset")
    assert build.build_id == (HYPERVISOR / "properties/buildid").read_bytes().hex()
    assert f"{xen.virt_start:x}" == _told("properties/virtual_start")


def test_physinfo(xen: pyxc.Xen) -> None:
    info = xen.physinfo()
    assert info.nr_cpus == online_cpus() == xen.nr_cpus
    assert info.threads_per_core * info.cores_per_socket <= info.nr_cpus
    assert info.nr_nodes == 1
    domains = sum(domain.tot_pages for domain in xen.domains.infos())
    assert info.total_pages > domains + info.free_pages
    assert info.max_mfn >= info.total_pages - 1


def test_free_memory_shrinks_by_what_a_domain_gets(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    before = xen.physinfo().free_pages
    pv.memory.populate(range(512))
    assert before - xen.physinfo().free_pages == 512


def test_topology(xen: pyxc.Xen) -> None:
    topology = xen.topology()
    assert [place.cpu for place in topology] == list(range(online_cpus()))
    assert {place.node for place in topology} == {0}
    assert len({(place.socket, place.core) for place in topology}) <= len(topology)


def test_numa(xen: pyxc.Xen) -> None:
    (node,) = xen.numa()
    physinfo = xen.physinfo()
    assert node.node == 0
    assert node.distances == (10,)
    assert node.free_bytes is not None and node.size_bytes is not None
    assert abs(node.free_bytes // 4096 - physinfo.free_pages) < 1024
    assert node.size_bytes // 4096 >= physinfo.total_pages


def test_commandline_is_what_it_was_booted_with(xen: pyxc.Xen) -> None:
    dom0_mb = xen.domains[0].info().memory_kb // 1024
    assert f"dom0_mem={dom0_mb}M" in xen.commandline.split()


def test_scheduler_is_named_in_the_ring_and_known(xen: pyxc.Xen) -> None:
    assert xen.scheduler in {pyxc.Scheduler.CREDIT, pyxc.Scheduler.CREDIT2}


def test_console_goes_on_where_it_stopped(xen: pyxc.Xen) -> None:
    text, index = xen.console.read_from()
    assert text
    xen.debug_keys("h")
    new, end = xen.console.read_from(index)
    assert b"'h' pressed" in new
    assert end == index + len(new)
    assert xen.console.read_from(end) == (b"", end)
    assert xen.console.read().endswith(new)


def test_clear_console_forgets_what_it_gives(xen: pyxc.Xen) -> None:
    xen.debug_keys("h")
    assert b"'h' pressed" in xen.console.clear()
    assert b"'h' pressed" not in xen.console.read()


def test_readonly_handle_reads_and_refuses_to_change(pv: pyxc.Domain) -> None:
    with pyxc.open(readonly=True, names=False) as reader:
        domain = reader.domains[pv.domid]
        assert domain.info().uuid == pv.uuid
        for change in (domain.pause, domain.destroy, reader.domains.create, reader.console.clear):
            try:
                change()
            except pyxc.ReadOnlyError:
                continue
            raise AssertionError(f"{change} was let through")
    assert pv.info().uuid == pv.uuid
