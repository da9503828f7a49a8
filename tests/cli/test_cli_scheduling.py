# SPDX-License-Identifier: MIT
"""Commands about schedulers and cpu pools, as xl prints them."""

from __future__ import annotations

import pytest

from pyxc import opening, sim
from pyxc.cli.status import Status
from pyxc.store import StoreClient

HEADER = "Name                                ID Weight  Cap"


@pytest.fixture
def rtds_host(monkeypatch: pytest.MonkeyPatch) -> sim.Hypervisor:
    """A Xen 4.14 that all runs of the command in a test share; web1 is in a pool under rtds."""
    hypervisor = sim.Hypervisor(sim.named("sim:xen-4.14"))
    monkeypatch.setattr(opening, "open_link", lambda target, gate: hypervisor.connect("sim:xen-4.14"))
    return hypervisor


def _realtime(pyxc):
    pyxc("cpupool-cpu-remove", "Pool-0", "1")
    pyxc("cpupool-create", "-n", "realtime", "-s", "rtds", "-c", "1")
    pyxc("cpupool-migrate", "web1", "realtime")


def test_shares_of_all_domains(pyxc, host):
    assert pyxc("sched-credit2").out.splitlines() == [
        "Cpupool Pool-0: ratelimit=1000us",
        HEADER,
        "Domain-0                             0    256    0",
        "web1                                 1    256    0",
        "db1                                  2    256    0",
        "build                                3    256    0",
    ]
    remark = "no cpu pool is under credit: they are under credit2 (see pyxc cpupool-list)\n"
    assert pyxc("sched-credit") == (Status.OK, "", remark)


def test_a_weight_and_then_a_cap(pyxc, host):
    assert pyxc("sched-credit2", "-d", "web1", "-w", "512") == (Status.OK, "", "")
    assert pyxc("sched-credit2", "--domain", "web1", "--cap", "50").status == Status.OK
    assert pyxc("sched-credit2", "-d", "web1").out.splitlines() == [
        HEADER,
        "web1                                 1    512   50",
    ]
    (shown,) = pyxc("sched-credit2", "-d", "web1", "--json").json["domains"]
    assert shown == {"domid": 1, "name": "web1", "weight": 512, "cap": 50}


def test_what_a_scheduler_does_in_a_pool(pyxc, host):
    assert pyxc("sched-credit2", "-s").out == "Cpupool Pool-0: ratelimit=1000us\n"
    assert pyxc("sched-credit2", "-s", "-p", "Pool-0", "-r", "2000") == (Status.OK, "", "")
    assert host.pools[0].params == {"ratelimit_us": 2000}
    pyxc("cpupool-cpu-remove", "0", "1")
    pyxc("cpupool-create", "--name", "old", "--sched", "credit", "--cpus", "1")
    assert pyxc("sched-credit").out.splitlines()[0] == (
        "Cpupool old: tslice=30ms ratelimit=1000us migration-delay=0us"
    )
    pyxc("sched-credit", "-s", "-p", "old", "-t", "5", "-m", "7")
    assert pyxc("sched-credit", "-s", "-p", "old", "--json").json["pools"] == [
        {"pool_id": 1, "name": "old", "tslice_ms": 5, "ratelimit_us": 1000, "vcpu_migr_delay_us": 7}
    ]


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (("sched-credit2", "-w", "5"), Status.USAGE, "-d DOMAIN is missing"),
        (("sched-credit2", "-r", "5"), Status.USAGE, "-s (--schedparam) is missing"),
        (("sched-credit2", "-s", "-d", "web1"), Status.USAGE, "cannot be used with options of domains"),
        (("sched-credit2", "-d", "web1", "-c", "201"), Status.USAGE, "from 0 to 200"),
        (("sched-credit2", "-d", "nobody"), Status.NO_DOMAIN, "nobody"),
        (("sched-credit", "-d", "web1"), Status.FAILED, "domain 1 is not under credit"),
        (("sched-credit2", "-p", "nowhere"), Status.FAILED, "no cpu pool has the name nowhere"),
        (("sched-rtds", "-d", "web1", "-v", "0"), Status.FAILED, "domain 1 is not under rtds"),
        (("sched-rtds", "-v", "0"), Status.USAGE, "-d DOMAIN is missing"),
        (("sched-rtds", "-d", "web1", "-v", "x"), Status.USAGE, "'x' is not a number"),
        (("sched-rtds", "-d", "web1", "-v", "9"), Status.FAILED, "has no vcpu 9; it has 2"),
        (("cpupool-list", "7"), Status.FAILED, "no cpu pool has the id 7"),
        (("cpupool-destroy", "0"), Status.FAILED, "the pool has cpus or domains"),
        (("cpupool-create", "-c", "1"), Status.FAILED, "cpu 1 already belongs to a pool"),
        (("cpupool-create", "-s", "rtds"), Status.FAILED, "built without this scheduler"),
        (("cpupool-rename", "0", "Pool-0"), Status.USAGE, "another cpu pool has the name Pool-0"),
    ],
)
def test_what_cannot_be_done(pyxc, host, words, status, complaint):
    outcome = pyxc(*words)
    assert (outcome.status, outcome.out) == (status, "")
    assert complaint in outcome.err


def test_times_of_vcpus(pyxc, rtds_host):
    _realtime(pyxc)
    assert pyxc("sched-rtds").out.splitlines() == [
        "Cpupool realtime: sched=RTDS",
        "Name                                ID    Period    Budget  Extratime",
        "web1                                 1     10000      4000         no",
    ]
    pyxc("sched-rtds", "-d", "web1", "-v", "1", "-p", "20000", "-e", "0")
    assert pyxc("sched-rtds", "-d", "web1", "-v", "all").out.splitlines() == [
        "Name                                ID VCPU    Period    Budget  Extratime",
        "web1                                 1    0     10000      4000        yes",
        "web1                                 1    1     20000      4000         no",
    ]
    pyxc("sched-rtds", "-d", "web1", "-b", "5000")
    assert pyxc("sched-rtds", "-d", "web1", "-v", "1", "--json").json["vcpus"] == [
        {"domid": 1, "vcpu": 1, "period_us": 20000, "budget_us": 5000, "extratime": False}
    ]


def test_pools(pyxc, host):
    assert pyxc("cpupool-list").out.splitlines() == [
        "Name               CPUs   Sched     Active   Domain count",
        "Pool-0               2   credit2       y          4",
    ]
    pyxc("cpupool-cpu-remove", "Pool-0", "1")
    assert pyxc("cpupool-create", "-n", "small", "-s", "credit", "-c", "1").out == "1\n"
    pyxc("cpupool-migrate", "web1", "small")
    assert pyxc("cpupool-list", "-c").out.splitlines() == [
        "Name               CPU list",
        "Pool-0             0",
        "small              1",
    ]
    assert pyxc("cpupool-list", "small", "--json").json["pools"] == [
        {"pool_id": 1, "name": "small", "scheduler": "credit", "domains": 1, "cpus": [1]}
    ]
    assert pyxc("cpupool-rename", "small", "tiny", "--json").json["name"] == "tiny"
    assert pyxc("cpupool-destroy", "tiny").status == Status.FAILED
    pyxc("cpupool-migrate", "web1", "0")
    assert pyxc("cpupool-destroy", "tiny").status == Status.OK
    assert pyxc("cpupool-cpu-add", "Pool-0", "1").status == Status.OK
    assert (list(host.pools), host.pools[0].cpus) == ([0], 0b11)
    with StoreClient(host.store.connect) as store:
        assert store.list("/local/pool") == ["0"]


def test_some_cpus_of_a_list_cannot_be_taken(pyxc, host):
    outcome = pyxc("cpupool-cpu-remove", "Pool-0", "all", "--json")
    assert outcome.status == Status.PARTIAL
    assert (outcome.json["cpus"], outcome.json["failed"][0]["argument"]) == ([1], "1")
    assert "the pool needs this cpu" in outcome.err


def test_names_of_pools_are_completed(pyxc, host):
    assert pyxc("__complete", "cpupool-destroy", "").out.split() == ["Pool-0"]
    assert pyxc("__complete", "sched-credit2", "-p", "P").out.split() == ["Pool-0"]
    assert pyxc("__complete", "sched-credit2", "-d", "w").out.split() == ["web1"]


def test_before_there_were_pools(pyxc):
    outcome = pyxc("--target", "sim:xen-3.4", "cpupool-list")
    assert outcome.status == Status.UNSUPPORTED
