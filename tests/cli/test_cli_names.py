# SPDX-License-Identifier: MIT
"""Domains and pools by name on the command line: what is meant, and what cannot be known."""

from __future__ import annotations

import pytest
from channels import HeldChannel

import pyxc as library
from pyxc import sim
from pyxc.sim.link import SimLink

WEB1 = "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01"
CANNOT = (
    "the name web1 cannot be looked up (use an id or a UUID): xenstore read of /local/domain/0/name failed"
)
CHANGES = (
    ["pause"], ["unpause"], ["destroy"], ["trigger", "nmi"], ["mem-max", "64"], ["context"], ["frames"],
    ["vcpu-pin", "0", "0"], ["list"], ["vcpu-list"], ["claims"], ["cpu-policy"], ["sched-credit2", "-d"],
    ["cpupool-migrate", "0"], ["dump-core", "never-written.core"],
)  # fmt: skip
"""Commands on a domain; its name comes behind the first word, or behind the option that ends it."""


def words(command: list[str], name: str) -> list[str]:
    return [*command, name] if command[-1] == "-d" else [command[0], name, *command[1:]]


@pytest.fixture
def busy(host: sim.Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A xenstored that answers nobody in time."""

    def connect(link: SimLink) -> HeldChannel:
        channel = HeldChannel(host.store.connect())
        channel.hold()
        return channel

    monkeypatch.setattr(SimLink, "connect_store", connect)
    monkeypatch.setattr("pyxc.store.names.TIMEOUT_S", 0.01)
    monkeypatch.setattr("pyxc.store.names._GLANCE_S", 0.01)
    monkeypatch.setattr("pyxc.store.Names._silent", {})


def state(host: sim.Hypervisor) -> list[object]:
    with library.connect(host.connect()) as xen:
        return [info._replace(cpu_time_ns=0) for info in xen.domains.infos()]


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_a_busy_xenstored_is_no_proof_that_there_is_no_such_domain(pyxc, host, command):
    before = state(host)
    outcome = pyxc(*words(command, "web1"))
    assert outcome.status == 1
    assert CANNOT in outcome.err
    assert state(host) == before


@pytest.mark.usefixtures("busy")
def test_ids_and_uuids_do_not_need_xenstore(pyxc, host):
    assert pyxc("pause", "1").status == 0
    assert pyxc("unpause", WEB1).status == 0
    assert pyxc("pause", "99").status == 5


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize(
    "command", [["list"], ["vcpu-list"], ["cpupool-list"], ["sched-credit2"], ["top", "-i1", "-d", "0.01"]]
)
def test_tables_show_what_they_know(pyxc, host, command):
    outcome = pyxc(*command)
    assert outcome.status == 0
    assert "Domain-0" not in outcome.out
    assert outcome.err == (
        "pyxc: warning: domains are shown without names: nothing replies on xenstore: is xenstored running?\n"
    )


@pytest.mark.usefixtures("busy")
def test_pools_too(pyxc, host):
    outcome = pyxc("cpupool-destroy", "Pool-0")
    assert (outcome.status, outcome.out) == (1, "")
    assert "the names of cpu pools cannot be looked up" in outcome.err


@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_a_name_of_two_domains_is_refused_with_their_ids(pyxc, host, command):
    host.store.write("/local/domain/3/name", "web1")
    before = state(host)
    outcome = pyxc(*words(command, "web1"))
    assert outcome.status == 1
    assert "web1: use an id (1, 3)" in outcome.err
    assert state(host) == before


def test_names_are_shown_and_taken_byte_by_byte(pyxc, host):
    with library.StoreClient(host.store.connect) as store:
        for domid, name in ((1, b"web\xff"), (2, b"web\xfe")):
            store.write(f"/local/domain/{domid}/name", name)
    rows = pyxc("list").out.splitlines()
    assert [row.split()[0] for row in rows[2:4]] == [r"web\xff", r"web\xfe"]
    assert [info["name"] for info in pyxc("list", "--json").json["domains"][1:3]] == [r"web\xff", r"web\xfe"]
    assert pyxc("pause", "--json", "web\udcfe").json["done"][0]["domid"] == 2
    assert pyxc("__complete", "pause", "").out.split() == ["Domain-0", "1", "2", "build"]
