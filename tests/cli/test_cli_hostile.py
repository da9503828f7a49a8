# SPDX-License-Identifier: MIT
"""What guests put into names, values and consoles acts on no terminal, forges no row and hides nothing."""

from __future__ import annotations

import unicodedata

import pytest

from pyxc.store import StoreClient

SIM = ("--target", "sim:xen-4.17")
TABLES = (
    ["list"], ["list", "-v"], ["claims"], ["vcpu-list"], ["top", "-i", "1", "-d", "0.01", "-f"],
    ["top", "-i", "1", "-d", "0.01"], ["sched-credit2"], ["domname", "1"], ["cpupool-list"],
    ["store", "ls", "/tool"], ["store", "read", "/tool/x"], ["info"], ["dmesg"], ["pause", "web\x1b[2J", "1"],
)  # fmt: skip
"""Commands that show what guests, and others, have written."""
NAMES = {
    "escapes": b"web\x1b]0;owned\x07\x1b[2J\x1b[1;1H",
    "a row of its own": b"x\nDomain-0                                    99  9999     9     r-----      0.0",
    "another row": b"x\r99 Domain-0",
    "8-bit controls": "web\x9b2J\x85".encode(),
    "the other direction": "web\u202e1bew\u2066\u2028".encode(),
    "a column": b"x\t99",
}


def nest(host, levels):
    with StoreClient(host.store.connect) as dom0, StoreClient(lambda: host.store.connect(1)) as guest:
        dom0.mkdir("/local/domain/1/data")
        dom0.set_permissions("/local/domain/1/data", ["n1"])
        guest.write("data/" + "/".join("a" * levels), "deep")


@pytest.fixture
def name_web1(host):
    """Give web1, a pool, a value and a line of the console a name."""

    def give(name):
        with StoreClient(host.store.connect) as store:
            for path in ("/local/domain/1/name", "/local/pool/0/name", "/tool/x"):
                store.write(path, name)
        host.console.print(name.decode())

    return give


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("command", TABLES, ids=" ".join)
def test_nothing_acts_on_the_terminal(pyxc, name_web1, command, kind):
    name_web1(NAMES[kind])
    outcome = pyxc(*command, *SIM)
    printed = outcome.out + outcome.err
    allowed = "\t\n"
    acting = [letter for letter in printed if not letter.isprintable() and letter not in allowed]
    assert acting == []
    assert not any(unicodedata.bidirectional(letter) in ("RLO", "LRI") for letter in printed)


@pytest.mark.parametrize("command", [["list"], ["vcpu-list"], ["top", "-i", "1", "-d", "0.01"]], ids=" ".join)
def test_a_name_stays_on_its_row(pyxc, name_web1, command):
    plain = len(pyxc(*command).out.splitlines())
    for name in NAMES.values():
        name_web1(name)
        assert len(pyxc(*command).out.splitlines()) == plain


def test_json_has_the_name_as_it_is(pyxc, name_web1):
    name_web1(NAMES["escapes"])
    names = [domain["name"] for domain in pyxc("list", "--json").json["domains"]]
    assert NAMES["escapes"].decode() in names


@pytest.mark.usefixtures("host")
def test_a_complaint_is_one_line(pyxc):
    outcome = pyxc("pause", "no\nsuch\x1b[2J")
    assert outcome.err == "pyxc: no\\nsuch\\x1b[2J: no domain has the name no such\\x1b[2J\n"


@pytest.mark.parametrize("words", [["store", "ls"], ["store", "ls", "-f"], ["--json", "store", "ls"]])
def test_nodes_may_be_nested_as_deep_as_the_quota_lets_a_guest(pyxc, host, words):
    nest(host, 985)
    outcome = pyxc(*words, *SIM)
    assert (outcome.status, outcome.err) == (0, "")
    assert "deep" in outcome.out and "Domain-0" in outcome.out


def test_deep_nodes_can_be_removed(pyxc, host):
    nest(host, 985)
    assert pyxc("store", "rm", "/local/domain/1/data", *SIM).status == 0
    assert pyxc("store", "ls", "/local/domain/1/data", *SIM).status != 0
