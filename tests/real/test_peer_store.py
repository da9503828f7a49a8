# SPDX-License-Identifier: MIT
"""xenstore: the real daemon through pyxc beside Xen's own programs, and the simulated one through these."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from pprint import pformat

import pytest
from ground_truth import Peer
from storescripts import client, compat, differences, recorded

import pyxc
from pyxc import sim
from pyxc.abi import event_channel
from pyxc.cli import main
from pyxc.compat import xs
from pyxc.sim.xenstored.listener import Listener
from pyxc.store import StoreClient, Transaction, channel

pytestmark = pytest.mark.usefixtures("peer")

TOP = "/pyxc-test"
LONG_S = 30.0


@pytest.fixture(params=["socket", "device"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreClient]:
    """A client on each of the two ways to the daemon."""
    if request.param == "device":
        monkeypatch.setattr(channel, "SOCKETS", ())
    with pyxc.open_store() as opened:
        opened.remove(TOP)
        yield opened
        opened.remove(TOP)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The pyxc command in this process; answers what it prints."""

    def run(*words: str) -> str:
        assert main(words) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreClient]:
    """A simulated daemon, which Xen's own programs find instead of the real one."""
    path = Path("/run/pyxc-test-xenstored")
    path.unlink(missing_ok=True)
    monkeypatch.setenv("XENSTORED_PATH", str(path))
    hypervisor = sim.Hypervisor(sim.named("sim:xen-4.17"))
    with Listener(hypervisor.store, path), StoreClient(hypervisor.store.connect) as opened:
        yield opened


def test_every_request_has_the_outcome_that_was_recorded(xen: pyxc.Xen) -> None:
    outcomes = json.loads(json.dumps(client.run(xen)))
    different = differences(recorded("client"), outcomes)
    assert not different, pformat(different)


def test_the_module_for_old_programs_has_the_outcomes_that_were_recorded() -> None:
    different = differences(recorded("compat"), compat.run(xs))
    assert not different, pformat(different)


def test_many_requests_at_a_time(store: StoreClient) -> None:
    """Linux's device spoils a request if the next one comes before the reply."""

    def fill(transaction: Transaction) -> None:
        with transaction.together() as changes:
            for index in range(100):
                path = f"{TOP}/many/{index}"
                changes.mkdir(path)
                changes.set_permissions(path, ("n0", "r1"))
                changes.write(f"{path}/value", str(index))

    for _ in range(5):
        store.transact(fill)
        paths = [f"{TOP}/many/{index}/value" for index in range(100)]
        assert store.read_many(paths) == [b"%d" % index for index in range(100)]
        store.remove(TOP)


def test_what_is_written_is_what_xens_programs_read(store: StoreClient, peer: Peer) -> None:
    store.write(f"{TOP}/a", b"tab\tand\xff")
    assert peer.run("xenstore-read", f"{TOP}/a") == "tab\\tand\\xff\n"
    peer.run("xenstore-write", f"{TOP}/b", "line\\n", f"{TOP}/c", "x")
    assert store.read(f"{TOP}/b") == b"line\n"
    assert peer.run("xenstore-list", TOP).split() == store.list(TOP) == ["a", "b", "c"]
    peer.run("xenstore-chmod", f"{TOP}/b", "n0", "r0", "b0")
    assert [str(one) for one in store.permissions(f"{TOP}/b") or ()] == ["n0", "r0", "b0"]
    peer.run("xenstore-rm", f"{TOP}/c")
    assert store.read(f"{TOP}/c") is None


def test_transactions_and_long_lists(store: StoreClient) -> None:
    names = [f"a-name-of-some-length-{number}" for number in range(300)]
    store.transact(lambda tx: [tx.mkdir(f"{TOP}/{name}") for name in names])
    assert store.list(TOP) == names
    transaction = store.begin()
    transaction.read(TOP)
    with StoreClient() as other:
        other.write(TOP, "changed")
    assert not transaction.commit()


def test_what_xens_programs_change_fires(store: StoreClient, peer: Peer) -> None:
    with store.watch(TOP) as watch:
        assert watch.get(LONG_S) == (TOP, TOP)
        peer.run("xenstore-write", f"{TOP}/a/b", "1")
        assert watch.get(LONG_S) == (f"{TOP}/a/b", TOP)
        seen = threading.Event()
        watch.call(lambda event: seen.set())
        peer.run("xenstore-rm", f"{TOP}/a")
        assert seen.wait(LONG_S)


def test_events_in_a_loop(store: StoreClient) -> None:
    async def main() -> list[str]:
        found = []
        with store.watch(TOP) as watch:
            asyncio.get_running_loop().call_later(0.2, store.write, f"{TOP}/a", "1")
            async for event in watch:
                found.append(event.path)
                if len(found) == 2:
                    break
        return found

    assert asyncio.run(asyncio.wait_for(main(), LONG_S)) == [TOP, f"{TOP}/a"]


def test_domains_that_go_away(store: StoreClient, pv: pyxc.Domain) -> None:
    with store.watch("@introduceDomain") as coming, store.watch("@releaseDomain") as going:
        assert (coming.get(LONG_S), going.get(LONG_S)) == (
            ("@introduceDomain", "@introduceDomain"),
            ("@releaseDomain", "@releaseDomain"),
        )
        _introduce(store, pv)
        assert coming.get(LONG_S) is not None
        assert store.is_introduced(pv.domid)
        pv.destroy()
        assert going.get(LONG_S) is not None
        assert not store.is_introduced(pv.domid)


def test_xenstored_wakes_who_watches_domains(store: StoreClient, xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    """It has the hypervisor's interrupt; with an interval that no test outlasts only its word can count."""
    with xen.watch_domains(interval=100 * LONG_S) as watcher:
        assert watcher.source == "xenstore"
        _introduce(store, pv)
        assert watcher.wait(0) is None
        stopping = threading.Timer(0.2, pv.shutdown)
        stopping.start()
        event = watcher.wait(LONG_S)
        stopping.join()
        assert event is not None
        assert (event.change, event.domid) == (pyxc.DomainChange.SHUT_DOWN, pv.domid)


def test_the_command_prints_what_xenstores_programs_print(peer: Peer, command: Callable[..., str]) -> None:
    with pyxc.open_store() as store:
        _plant(store)
        for words in ((), ("-p",), ("-f",), ("-f", "-p", "/local"), (TOP, "/tool")):
            assert command("store", "ls", *words) == peer.run("xenstore-ls", *words)
        for words in (("read", "-p", f"{TOP}/bytes", f"{TOP}/long"), ("list", "-p", TOP, "/local/domain")):
            assert command("store", *words) == peer.run("xenstore", *words)
        store.remove(TOP)


def test_xens_programs_find_in_the_simulated_daemon_what_they_look_for(
    simulated: StoreClient, peer: Peer, command: Callable[..., str]
) -> None:
    _plant(simulated)
    for words in ((), ("-p",), ("-f", "-p")):
        assert peer.run("xenstore-ls", *words) == command("store", "ls", *words)
    for number in range(300):
        simulated.mkdir(f"{TOP}/many/a-name-of-some-length-{number}")
    assert peer.run("xenstore-list", f"{TOP}/many").split() == simulated.list(f"{TOP}/many")
    peer.run("xenstore-write", f"{TOP}/a/b", "1", f"{TOP}/a/c", "2")
    peer.run("xenstore-rm", "-t", f"{TOP}/a/b")
    assert simulated.list(f"{TOP}/a") == ["c"]
    with simulated.watch(f"{TOP}/a") as watch:
        watch.get(LONG_S)
        peer.run("xenstore-chmod", f"{TOP}/a", "r1")
        assert watch.get(LONG_S) == (f"{TOP}/a", f"{TOP}/a")


def _introduce(store: StoreClient, domain: pyxc.Domain) -> None:
    """As a toolstack does: with a ring and a channel."""
    (frame,) = domain.memory.populate([0])
    domain.grants.seed(store=frame)
    reply = domain.xen.call(event_channel.ALLOC_UNBOUND, domain.domid, remote_dom=0)
    store.introduce(domain.domid, frame, reply.field("port"))


def _plant(store: StoreClient) -> None:
    """Nodes that are hard to print."""
    store.write(f"{TOP}/bytes", bytes(range(256)))
    store.write(f"{TOP}/long", b"w\n\\\x01\xff" * 30)
    for length in (63, 64, 65, 66):
        store.write(f"{TOP}/edge-{length}", b"e" * length)
    store.write(f"{TOP}/{'n' * 90}", b"v" * 10)
    store.write(f"{TOP}/{'/'.join('d' * 90)}", "deep")
