# SPDX-License-Identifier: MIT
"""What a scrape says of a host."""

from __future__ import annotations

import re
from pathlib import Path

import exposition
import kernel_files
import pytest
from hosts import Boot, Host

from pyxc.abi import sysctl, trace
from pyxc.abi.errno import XenErrno
from pyxc.metrics import Exporter, StealMeter
from pyxc.metrics.exporter import FAMILIES

WEB1 = {"domain": "web1", "uuid": "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01"}


def scrape(host: Host) -> dict[str, exposition.Metric]:
    return exposition.read(Exporter(host.xen).render())


@pytest.fixture
def busy(host: Host, tmp_path: Path) -> Host:
    """A host with a disk and a network."""
    kernel_files.disk(tmp_path, 1, 51712, rd_sect=8, wr_req=3)
    kernel_files.network(tmp_path, 1, 0, rx_bytes=70, tx_packets=2)
    host.truth.kernel_files = str(tmp_path)
    return host


def test_every_release_can_be_scraped(any_host: Host) -> None:
    found = scrape(any_host)
    assert found["xen_domain_memory_bytes"].only(**WEB1) == 64 << 20
    assert found["xen_host_domains"].only() == 4
    assert found["xen_exporter_scrape_failures_total"].only() == 0


def test_a_domain(busy: Host) -> None:
    found = scrape(busy)
    info = busy.xen.domains[1].info()
    assert found["xen_domain_cpu_seconds_total"].only(**WEB1) == pytest.approx(info.cpu_time_ns / 1e9)
    assert found["xen_domain_memory_limit_bytes"].only(**WEB1) == info.max_memory_kb * 1024
    assert found["xen_domain_info"].only(**WEB1, domid="1", type="pv", pool="0") == 1
    assert found["xen_domain_vcpu_seconds_total"].only(**WEB1, vcpu="1") > 0
    assert found["xen_domain_disk_read_bytes_total"].only(**WEB1, disk="xvda") == 4096
    assert found["xen_domain_disk_writes_total"].only(**WEB1, disk="xvda") == 3
    sent = found["xen_domain_network_transmit_bytes_total"]
    assert sent.only(**WEB1, device="0", interface="vif1.0") == 70
    assert found["xen_domain_network_receive_packets_total"].only(**WEB1) == 2


def test_the_host(host: Host) -> None:
    found = scrape(host)
    info = host.xen.physinfo()
    assert found["xen_host_memory_free_bytes"].only() == info.free_memory_kb * 1024
    assert len(found["xen_host_cpu_idle_seconds_total"].values) == info.nr_cpus
    assert found["xen_pool_info"].only(pool="0", scheduler="credit2") == 1
    assert found["xen_info"].only(version="4.17.7") == 1 or found["xen_info"].values


def test_dom0_has_no_limit(host: Host) -> None:
    limits = scrape(host)["xen_domain_memory_limit_bytes"].values
    assert len(limits) == 3


def test_states(host: Host) -> None:
    host.xen.domains[2].pause()
    host.truth.shut_down(host.truth.domains[1], 3)
    found = scrape(host)
    assert found["xen_domain_paused"].only(domain="db1") == 1
    assert found["xen_domain_crashed"].only(domain="web1") == 1
    assert found["xen_domain_shutdown_reason"].only(domain="web1") == 3
    assert len(found["xen_domain_shutdown_reason"].values) == 1


def test_unique_ids(boot: Boot) -> None:
    host = boot("4.22")
    assert scrape(host)["xen_domain_info"].only(unique_id=str(host.xen.domains[1].unique_id), **WEB1) == 1


NAMES = ('say "hi"', "back\\slash", "two\nlines", "snow\N{SNOWMAN}", "x" * 1000, "", "\\")


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_a_label(host: Host, name: str) -> None:
    host.truth.store.write("/local/domain/1/name", name)
    assert scrape(host)["xen_domain_memory_bytes"].only(uuid=WEB1["uuid"]) == 64 << 20


def test_promtool_takes_any_name(host: Host) -> None:
    for name in NAMES:
        host.truth.store.write("/local/domain/1/name", name)
        exposition.check_with_promtool(Exporter(host.xen).render())


def test_of_two_with_one_name_and_uuid_the_living_one_counts(host: Host) -> None:
    old = host.xen.domains[1]
    with old.memory.map(old.memory.frames().frames[:1]) as held:
        assert not held.closed
        host.truth.kill(host.truth.domains[1])
        new = host.xen.domains.create(uuid=old.uuid)
        host.truth.introduce(new.domid, "web1")
        found = scrape(host)
        assert found["xen_domain_info"].only(**WEB1, domid=str(new.domid)) == 1
        assert found["xen_domain_dying"].only(**WEB1) == 0
        assert found["xen_host_domains"].only() == 5


def test_a_scrape_that_fails_is_counted(host: Host) -> None:
    exporter = Exporter(host.xen)
    host.link.fail(sysctl.GETDOMAININFOLIST, XenErrno.EPERM)
    failed = exposition.read(exporter.render())
    assert set(failed) == {family.name for family in FAMILIES if family.name.startswith("xen_exporter_")}
    assert failed["xen_exporter_scrape_failures_total"].only() == 1
    again = exposition.read(exporter.render())
    assert again["xen_exporter_scrapes_total"].only() == 2
    assert again["xen_host_domains"].only() == 4


def test_nothing_is_changed(boot: Boot) -> None:
    host = boot(readonly=True)
    assert scrape(host)["xen_host_domains"].only() == 4


def test_runstates(host: Host) -> None:
    with StealMeter(host.xen) as steal:
        exporter = Exporter(host.xen, steal)
        change = trace.TRC_SCHED_RUNSTATE_CHANGE
        for old, new, lasts_ns in ((2, 1, 3_000_000), (1, 0, 5_000_000), (0, 2, 0), (2, 1, 0), (1, 0, 0)):
            host.truth.trace(1, change | old << 8 | new << 4, 1 << 16)
            host.truth.clock_ns += lasts_ns
        found: dict[str, exposition.Metric] = {}
        while "xen_domain_vcpu_wakes_total" not in found:
            found = exposition.read(exporter.render())
    times = found["xen_domain_vcpu_runstate_seconds_total"]
    assert times.only(**WEB1, vcpu="0", state="runnable") == pytest.approx(0.003, rel=0.1)
    assert times.only(**WEB1, vcpu="0", state="running") == pytest.approx(0.005, rel=0.1)
    assert found["xen_trace_lost_records_total"].only() == 0
    assert not host.truth.trace_buffers.enabled


def test_runstates_of_a_domain_that_has_gone_are_forgotten(host: Host) -> None:
    steal = StealMeter(host.xen)
    with host.xen.trace_buffers.record() as reader:
        for domid in (1, 9):
            host.truth.trace(1, trace.TRC_SCHED_RUNSTATE_CHANGE, domid << 16)
        steal.read(reader)
        host.truth.trace(1, trace.TraceClass.SCHED_MIN | 2)
        steal.read(reader)
    assert list(steal.totals({1, 2})[0]) == [(1, 0)]
    assert list(steal.totals({1, 9})[0]) == [(1, 0)]


def test_performance_counters(boot: Boot) -> None:
    host = boot("4.17-xsm")
    found = scrape(host)["xen_performance_counter_total"]
    assert found.only(counter="hypercalls") > 0
    assert len(found.values) == len(host.xen.perfc.read())


def test_without_tracing_there_are_none(host: Host) -> None:
    assert not {"xen_domain_vcpu_runstate_seconds_total", "xen_trace_lost_records_total"} & set(scrape(host))


def test_families_are_named_as_prometheus_wants() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names)) >= 60
    for family in FAMILIES:
        assert re.fullmatch(r"xen_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert family.help.endswith(".") and "\n" not in family.help and "\\" not in family.help
        assert not re.search(r"_(ns|kb|kib|percent|ms|mhz|khz|count|sum)(_|$)", family.name)


def test_promtool_has_nothing_to_say(busy: Host) -> None:
    exposition.check_with_promtool(Exporter(busy.xen).render())
