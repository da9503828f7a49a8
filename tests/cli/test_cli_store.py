# SPDX-License-Identifier: MIT
"""`pyxc store`: output as of the xenstore-* programs, byte for byte, and JSON."""

from __future__ import annotations

import errno
import itertools

import pytest

from pyxc.cli.commands.store import escaped, unescaped
from pyxc.sim.xenstored.request import Refused
from pyxc.store import StoreClient

SIM = ("--target", "sim:xen-4.17")
LONG = "v" * 80


@pytest.fixture
def store(host):
    """A client of the xenstore that the command sees."""
    with StoreClient(host.store.connect) as client:
        client.write("/x/a", "1")
        client.write("/x/a/b", "two\n")
        client.write("/x/long", LONG)
        client.write("/x/" + "n" * 90, LONG)
        client.set_permissions("/x/a/b", ["n1", "r2"])
        yield client


@pytest.mark.usefixtures("store")
def test_ls(pyxc):
    outcome = pyxc("store", "ls", "/x", *SIM)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == (
        'a = "1"\n'
        ' b = "two\\n"\n'
        f'long = "{"v" * 68}\\..."\n'
        f'{"n" * 72} = "\\..."\n'
    )  # fmt: skip


@pytest.mark.usefixtures("store")
def test_ls_with_permissions(pyxc):
    assert pyxc("store", "ls", "-p", "/x/a", *SIM).out == (
        'b = "two\\n"  . . . . . . . . . . . . . . . . . . . . . . . .  (n1,r2)\n'
    )


@pytest.mark.usefixtures("store")
def test_ls_flat(pyxc):
    assert pyxc("store", "ls", "--flat", "-p", "/x/a", "/x", *SIM).out == (
        '/x/a/b = "two\\n"   (n1,r2)\n'
        '/x/a = "1"   (n0)\n'
        '/x/a/b = "two\\n"   (n1,r2)\n'
        f'/x/long = "{LONG}"   (n0)\n'
        f'/x/{"n" * 90} = "{LONG}"   (n0)\n'
    )  # fmt: skip


def test_ls_shows_everything_unless_told(pyxc):
    lines = pyxc("store", "ls", *SIM).out.splitlines()
    assert lines[:2] == ['tool = ""', ' xenstored = ""']
    assert '   name = "web1"' in lines


@pytest.mark.usefixtures("store")
def test_ls_as_json(pyxc):
    assert pyxc("store", "ls", "-p", "/x/a", "--json", *SIM).json == {
        "schema": 1,
        "nodes": [{"path": "/x/a/b", "value": "two\n", "permissions": ["n1", "r2"]}],
    }


@pytest.mark.parametrize("command", ["ls", "list", "read"])
def test_a_node_that_is_not_there(pyxc, command):
    outcome = pyxc("store", command, "/nothing", *SIM)
    assert (outcome.status, outcome.out, outcome.err) == (1, "", "pyxc: /nothing: no such node\n")


@pytest.mark.usefixtures("store")
def test_list(pyxc):
    assert pyxc("store", "list", "/x/a", "/local/domain", *SIM).out == "b\n0\n1\n2\n3\n"
    assert "/tool" in pyxc("store", "list", "-p", "/", *SIM).out.splitlines()
    outcome = pyxc("store", "list", "-p", "/x/a", "/nothing", *SIM)
    assert (outcome.status, outcome.out, outcome.err) == (7, "/x/a/b\n", "pyxc: /nothing: no such node\n")


@pytest.mark.usefixtures("store")
def test_read(pyxc):
    assert pyxc("store", "read", "/x/a/b", *SIM).out == "two\\n\n"
    assert pyxc("store", "read", "--prefix", "/x/a", "/x/a/b", *SIM).out == "/x/a: 1\n/x/a/b: two\\n\n"
    outcome = pyxc("store", "read", "/x/a/b", "/nothing", "--json", *SIM)
    assert outcome.status == 7
    assert outcome.json == {
        "schema": 1,
        "nodes": [{"path": "/x/a/b", "value": "two\n"}],
        "failed": [{"argument": "/nothing", "status": 1, "error": "no such node"}],
    }


def test_write(pyxc, store):
    outcome = pyxc("store", "write", "/y/a", r"\x41\102\n\\\q", "/y/b", "ü", *SIM)
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert (store.read("/y/a"), store.read("/y/b")) == (b"AB\n\\q", "ü".encode())
    assert pyxc("store", "write", "/y/a", "", "--json", *SIM).json == {"schema": 1, "done": ["/y/a"]}
    assert store.read("/y/a") == b""


def test_write_is_all_or_nothing(pyxc, store):
    outcome = pyxc("store", "write", "/y/a", "1", "/y//b", "2", *SIM)
    assert outcome.status == 2
    assert "'/y//b' is not a path" in outcome.err
    assert store.read("/y") is None
    outcome = pyxc("store", "write", "/y/a", "1", "/y/b", *SIM)
    assert (outcome.status, outcome.err) == (2, "pyxc: /y/b has no value\n")


def test_rm(pyxc, store):
    assert pyxc("store", "rm", "/x/a", "/nothing", *SIM).status == 0
    assert store.list("/x") == ["long", "n" * 90]
    store.write("/y/a/b/c", "1")
    store.write("/y/value", "1")
    assert pyxc("store", "rm", "--tidy", "/y/a/b/c", "--json", *SIM).json == {
        "schema": 1, "done": ["/y/a/b/c"]
    }  # fmt: skip
    assert store.list("/y") == ["value"]
    assert pyxc("store", "rm", "-t", "/y/value", *SIM).status == 0
    assert store.read("/y") is None


def test_watch(pyxc, store, monkeypatch):
    made = StoreClient.watch

    def watch_and_change(self, *paths, depth):
        watch = made(self, *paths, depth=depth)
        store.write("/x/a", "changed")
        return watch

    monkeypatch.setattr(StoreClient, "watch", watch_and_change)
    assert pyxc("store", "watch", "-n", "3", "/x", "/y", *SIM).out == "/x\n/y\n/x/a\n"
    assert pyxc("store", "watch", "-n", "2", "/x", "--json", *SIM).json == {
        "schema": 1,
        "events": [{"path": "/x", "watched": "/x"}, {"path": "/x/a", "watched": "/x"}],
    }


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["watch", "/x", "--json"], "--json needs --number"),
        (["read", "no path"], "'no path' is not a path"),
        (["ls", "--target", "moon"], "unknown target"),
    ],
)
def test_what_makes_no_sense(pyxc, words, complaint):
    outcome = pyxc("store", *words, *(() if "--target" in words else SIM))
    assert (outcome.status, outcome.out) == (2, "")
    assert complaint in outcome.err


def test_a_command_for_xenstored(pyxc):
    assert pyxc("store", "control", "help", *SIM).out.splitlines()[0] == "check"
    assert pyxc("store", "control", "nonsense", *SIM).status != 0
    assert pyxc("store", "control", *SIM).status == 2


@pytest.mark.parametrize("words", [("write", "/x/a", "2"), ("rm", "/x/a"), ("control", "check")])
def test_read_only(pyxc, store, words):
    outcome = pyxc("--read-only", "store", *words, *SIM)
    assert outcome.status == 4
    assert "this handle is read-only" in outcome.err
    assert store.read("/x/a") == b"1"


def test_no_permission(pyxc, monkeypatch, host):
    monkeypatch.setattr("pyxc.sim.link.SimLink.connect_store", lambda link: host.store.connect(1))
    outcome = pyxc("store", "list", "/local", *SIM)
    assert (outcome.status, outcome.err) == (
        4, "pyxc: xenstore directory of /local failed: EACCES, Permission denied\n"
    )  # fmt: skip


def test_what_is_recorded_can_be_replayed(pyxc, tmp_path):
    recording = tmp_path / "store.calls"
    words = ("store", "read", "-p", "/local/domain/1/name", "/local/domain/2/name")
    shown = pyxc(*words, "--record", str(recording), *SIM).out
    assert shown == "/local/domain/1/name: web1\n/local/domain/2/name: db1\n"
    assert pyxc(*words, "--target", f"replay:{recording}").out == shown


def test_without_xenstore(pyxc, monkeypatch):
    monkeypatch.setenv("XENSTORED_PATH", "/nowhere")
    outcome = pyxc("store", "list", "/")
    assert (outcome.status, outcome.out) == (1, "")
    assert "no xenstore: at /nowhere" in outcome.err


def test_values_survive_printing_and_typing():
    every = bytes(range(256))
    assert unescaped(escaped(every)) == every
    for pair in itertools.product(b"\0\x07\x08\n\\x19a\xff", repeat=2):
        assert unescaped(escaped(bytes(pair))) == bytes(pair)
    assert escaped(b"\0\x07\x08 ~\x7f\xff\t\r\\") == r"\000\007\x08 ~\x7f\xff\t\r\\"


NEW = ("--target", "sim:xen-4.22")


def test_features(pyxc):
    assert pyxc("store", "features", *NEW) == (0, "error\nwatchdepth\ndomid_any\n", "")
    assert pyxc("store", "features", "1", "--json", *NEW).json == {
        "schema": 1, "domid": 1, "features": ["error", "watchdepth", "domid_any"],
    }  # fmt: skip


def test_quotas(pyxc):
    outcome = pyxc("store", "quota", *NEW)
    assert "nodes             : 1000\nwatches           : 128\n" in outcome.out
    assert pyxc("store", "quota", "-d", "1", "nodes", "--json", *NEW).json == {
        "schema": 1, "domid": 1, "quotas": {"nodes": 1000},
    }  # fmt: skip
    assert pyxc("store", "quota", "nodes", "7", "--json", *NEW).json == {"schema": 1, "done": ["nodes"]}
    assert "spoons: no such quota; there are nodes, watches" in pyxc("store", "quota", "spoons", *NEW).err
    assert pyxc("store", "quota", "spoons", "7", *NEW).status == 1


def test_watch_to_a_depth(pyxc, store, monkeypatch):
    made = StoreClient.watch

    def watch_and_change(self, *paths, depth):
        watch = made(self, *paths, depth=depth)
        for path in ("/x/a/b/c", "/x/a"):
            store.write(path, "changed")
        return watch

    monkeypatch.setattr(StoreClient, "watch", watch_and_change)
    assert pyxc("store", "watch", "-d", "1", "-n", "2", "/x", *SIM).out == "/x\n/x/a\n"


def test_an_older_xenstored_has_no_quotas_to_be_asked_for(pyxc):
    for words in (["features"], ["quota"]):
        outcome = pyxc("store", *words, *SIM)
        assert outcome.status == 1 and "ENOSYS" in outcome.err


def test_who_uses_most_of_xenstore(pyxc, store):
    for number in range(100):
        store.write(f"/local/domain/2/data/{number}", b"")
        store.set_permissions(f"/local/domain/2/data/{number}", ["n2"])
    header, *rows = pyxc("store", "top").out.splitlines()
    assert header.split()[:3] == ["Name", "ID", "Nodes"]
    assert rows[0].split()[:2] == ["db1", "2"]
    assert len(rows) == 4 and len(pyxc("store", "top", "-n", "1").out.splitlines()) == 2
    first = pyxc("store", "top", "--json").json["domains"][0]
    assert (first["name"], first["nodes"]) == ("db1", store.usage(2).nodes)


def test_who_owns_most_of_it_where_xenstored_does_not_count(pyxc, store, monkeypatch):
    counted = {domid: store.usage(domid).nodes for domid in (1, 2, 3)}
    monkeypatch.setattr("pyxc.sim.xenstored.control._used", lambda request, domid: refused())
    done = pyxc("store", "top", "--json")
    found = {domain["domid"]: domain for domain in done.json["domains"]}
    assert {domid: found[domid]["nodes"] for domid in counted} == counted
    assert found[1]["watches"] is None
    assert "does not count" in pyxc("store", "top").err


def refused():
    raise Refused(errno.EINVAL)
