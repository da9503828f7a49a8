# SPDX-License-Identifier: MIT
"""Guests saved and restored by the command."""

from __future__ import annotations

import errno

import pytest

from pyxc import sim
from pyxc.abi import domctl, domctl_hvm
from pyxc.cli.commands import move

DB1 = 2


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "db1.save")


def save(pyxc, *words):
    return pyxc("--provenance", "none", "save", *words)


def test_a_guest_goes_and_comes_back(pyxc, host, file):
    host.script(DB1).obey()
    assert save(pyxc, "db1", file) == (0, "", "")
    assert DB1 not in host.domains
    pyxc("store", "rm", f"/local/domain/{DB1}")
    assert pyxc("restore", file) == (0, "", "")
    made = max(host.domains)
    assert not host.domains[made].stopped
    assert pyxc("domid", "db1").out == f"{made}\n"


def test_what_becomes_of_it_here(pyxc, host, file):
    host.script(DB1).obey()
    assert save(pyxc, "-c", "-l", "db1", file).status == 0
    assert not host.domains[DB1].stopped
    assert save(pyxc, "-p", "db1", file).status == 0
    assert (host.domains[DB1].pauses, host.domains[DB1].shutdown_code) == (1, None)
    assert save(pyxc, "-F", "-c", "db1", file).status == 0
    assert host.domains[DB1].pauses == 1


def test_a_guest_that_does_not_suspend_runs_on(pyxc, host, file, tmp_path):
    outcome = save(pyxc, "--timeout", "0.01", "db1", file)
    assert outcome.status == 1
    assert "has no Xen drivers" in outcome.err
    host.script(DB1)
    outcome = save(pyxc, "--timeout", "0.01", "db1", file)
    assert outcome.status == 1
    assert "has not accepted the request to suspend" in outcome.err
    assert not host.domains[DB1].stopped
    assert [left.name for left in tmp_path.iterdir()] == ["db1.save.part"]


@pytest.mark.parametrize(("interrupted", "status"), [(False, 1), (True, 130)])
def test_what_is_left_is_said(pyxc, host, file, interrupted, status):
    @host.handles(domctl_hvm.GETHVMCONTEXT)
    def failing(call):
        if interrupted:
            raise KeyboardInterrupt
        return -errno.ENODATA

    host.handles(domctl.RESUMEDOMAIN)(lambda call: -errno.EPERM)
    outcome = save(pyxc, "-F", "db1", file)
    assert outcome.status == status
    assert "domain 2 is left suspended: domctl.resumedomain" in outcome.err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["save", "-c", "-p", "db1", "FILE"], 2, "not allowed with"),
        (["save", "nobody", "FILE"], 5, "nobody"),
        (["save", "-z", "rar", "db1", "FILE"], 2, "expected one of gzip, zstd, lz4"),
        (["save", "--json", "db1", "-"], 2, "the standard output is for the result"),
        (["restore", "FILE"], 1, "No such file"),
        (["restore", "--name", "7", "SAVED"], 2, "'7' cannot be a name"),
        (["restore", "SAVED"], 2, "give the new one another `uuid`"),
    ],
)
def test_what_cannot_be_done(pyxc, host, tmp_path, words, status, message):
    saved = str(tmp_path / "saved")
    assert save(pyxc, "-F", "-c", "db1", saved).status == 0
    places = {"FILE": str(tmp_path / "file"), "SAVED": saved}
    outcome = pyxc(*(places.get(word, word) for word in words))
    assert message in outcome.err
    assert outcome.status == status


def test_between_two_hosts(pyxc, host, file, monkeypatch):
    host.script(DB1).obey()
    save(pyxc, "db1", file)
    other = sim.Hypervisor(sim.named("sim:xen-4.17"), with_guests=False)
    monkeypatch.setattr("pyxc.opening.open_link", lambda target, gate="auto": other.connect("sim:xen-4.17"))
    outcome = pyxc("restore", "--json", "-p", file)
    assert outcome.err == ""
    made = outcome.json
    assert (made["kind"], other.domains[made["domid"]].tot_pages) == ("pvh", 32_776)
    assert pyxc("domname", str(made["domid"])).out == "db1\n"


def test_to_the_standard_output(pyxc, host, file, monkeypatch):
    host.script(DB1).obey()
    with open(file, "w", encoding="ascii") as out, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", out)
        assert save(pyxc, "db1", "-").status == 0
    assert DB1 not in host.domains
    pyxc("store", "rm", f"/local/domain/{DB1}")
    assert pyxc("restore", file) == (0, "", "")


def test_a_guest_moves(pyxc, host, receiver):
    host.script(DB1).obey()
    outcome = pyxc("migrate", "-s", "", "db1", receiver)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("db1: 128 MiB in ")
    assert DB1 not in host.domains


def test_a_guest_moves_no_faster_than_wanted(pyxc, host, receiver):
    host.script(DB1).obey()
    limits = ("--bandwidth", "64", "--max-downtime", "0.1")
    outcome = pyxc("migrate", "--json", *limits, "-s", "", "db1", receiver)
    assert outcome.status == 0
    assert outcome.json["sent_bytes"] / outcome.json["total_s"] < 64 << 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bandwidth", "fast"), "'fast' is not a size"),
        (("--bandwidth", "0"), "expected at least 4k"),
        (("--max-downtime", "0"), "not a time in seconds"),
        (("--stopped", "--max-downtime", "1"), "--stopped stops it"),
    ],
)
def test_limits_that_make_no_sense(pyxc, host, receiver, options, message):
    outcome = pyxc("migrate", *options, "-s", "", "db1", receiver)
    assert outcome.status != 0
    assert message in outcome.err
    assert not host.domains[DB1].stopped


@pytest.mark.usefixtures("incoming")
def test_a_guest_comes(pyxc, host):
    assert pyxc("migrate-receive") == (0, "", "")
    assert pyxc("domid", "db2").out == f"{max(host.domains)}\n"
    assert not host.domains[max(host.domains)].stopped


def test_another_side_that_does_not_end(pyxc, host, monkeypatch):
    """The guest runs again: an ssh over a network that does not answer is not waited for."""
    monkeypatch.setattr(move, "_LAST_WORDS_S", 0.01)
    there = "-c 'echo no; exec sleep 1000'"
    outcome = pyxc("migrate", "-F", "-s", "", "db1", "sh", "--remote", there)
    assert (outcome.status, outcome.out) == (1, "")
    assert "the other side sent b'no" in outcome.err
    assert not host.domains[DB1].stopped


@pytest.mark.parametrize(
    ("tunnel", "there", "message"),
    [
        ("", "exit 1;", "the other side has ended the connection"),
        ("echo", "web", "the other side sent b'web pyxc migrate-receive"),
        ("false", "web", "the other side has ended the connection"),
    ],
)
def test_a_guest_that_cannot_move_runs_on(pyxc, host, tunnel, there, message):
    outcome = pyxc("migrate", "-F", "-s", tunnel, "db1", there)
    assert (outcome.status, outcome.out) == (1, "")
    assert message in outcome.err
    assert not host.domains[DB1].stopped
    assert pyxc("domname", str(DB1)).out == "db1\n"
