# SPDX-License-Identifier: MIT
"""How much of the physical cpus domains use."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import kernel_files
import pytest
from hosts import Boot, Host

import pyxc
from pyxc import DomainUsage, Sample
from pyxc.link.record import RecordLink
from pyxc.link.replay import ReplayLink


def pass_time(host: Host, calls: int = 100) -> None:
    """Each hypercall takes the simulated host a moment."""
    for _ in range(calls):
        host.xen.physinfo()


def usage(host: Host, before: Sample) -> dict[int, DomainUsage]:
    return {used.info.domid: used for used in host.xen.sample().since(before)}


def test_busy_and_idle_domains(any_host: Host) -> None:
    before = any_host.xen.sample()
    pass_time(any_host)
    found = usage(any_host, before)
    assert found[2].cpu_percent == pytest.approx(100, abs=1)
    assert (found[1].cpu_percent, found[3].cpu_percent) == (0, 0)
    assert [vcpu.cpu_percent for vcpu in found[1].vcpus] == [0, 0]
    assert [vcpu.cpu_percent for vcpu in found[2].vcpus] == [pytest.approx(100, abs=2)]


def test_disks_and_networks_of_each_domain(host: Host, tmp_path: Path) -> None:
    assert host.xen.sample().disks is None
    kernel_files.disk(tmp_path, 2, 51712, rd_req=3)
    kernel_files.network(tmp_path, 1, 0, tx_bytes=9)
    host.truth.kernel_files = str(tmp_path)
    found = usage(host, host.xen.sample())
    assert [[disk.read_requests for disk in found[n].disks or ()] for n in (1, 2)] == [[], [3]]
    assert [[net.receive_bytes for net in found[n].networks or ()] for n in (1, 2)] == [[9], []]


def test_half_of_the_time(host: Host) -> None:
    before = host.xen.sample()
    pass_time(host)
    host.xen.domains[2].pause()
    pass_time(host)
    assert usage(host, before)[2].cpu_percent == pytest.approx(50, abs=2)


def test_vcpus_add_up(host: Host) -> None:
    before = host.xen.sample()
    pass_time(host)
    for used in usage(host, before).values():
        assert used.cpu_percent == pytest.approx(sum(vcpu.cpu_percent or 0 for vcpu in used.vcpus), abs=2), (
            used.info.domid
        )


def test_a_domain_that_came_has_no_past(host: Host) -> None:
    before = host.xen.sample()
    domain = host.xen.domains.create(max_vcpus=2)
    found = usage(host, before)[domain.domid]
    assert found.cpu_percent is None
    assert [vcpu.cpu_percent for vcpu in found.vcpus] == [None, None]


def test_a_domain_that_went_is_not_told_of(host: Host) -> None:
    before = host.xen.sample()
    host.xen.domains[1].destroy()
    assert set(usage(host, before)) == {0, 2, 3}


def test_an_id_that_is_used_again_begins_anew(host: Host) -> None:
    before = host.xen.sample()
    host.xen.domains[2].destroy()
    host.xen.domains.create(domid=2, uuid=uuid.uuid4())
    found = usage(host, before)[2]
    assert found.cpu_percent is None
    assert [vcpu.cpu_percent for vcpu in found.vcpus] == [None]


def test_the_earlier_sample_is_given(host: Host) -> None:
    first, second = host.xen.sample(), host.xen.sample()
    for before, after in ((second, first), (first, first)):
        with pytest.raises(ValueError, match="must be older"):
            after.since(before)


def test_a_sample_takes_two_calls(host: Host) -> None:
    host.xen.sample()
    calls = host.link.hypercalls
    host.xen.sample()
    assert host.link.hypercalls == calls + 2


def test_samples_are_recorded(boot: Boot) -> None:
    host = boot("4.17")

    def run(link: object) -> list[float | None]:
        with pyxc.connect(link, names=False) as xen:  # type: ignore[arg-type]
            before = xen.sample()
            xen.physinfo()
            return [used.cpu_percent for used in xen.sample().since(before)]

    stream = io.StringIO()
    found = run(RecordLink(host.truth.connect(), stream))
    assert run(ReplayLink(stream.getvalue().splitlines())) == found
