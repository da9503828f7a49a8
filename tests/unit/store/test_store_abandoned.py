# SPDX-License-Identifier: MIT
"""Requests that nobody waits for any more: what they did in xenstore does not stay."""

from __future__ import annotations

import errno
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from channels import HeldChannel
from hosts import Host
from interrupts import at_every_moment

from pyxc.errors import StoreError
from pyxc.sim.xenstored.session import Session
from pyxc.store import StoreClient, Transaction

TOO_LATE_S = 0.01
LONG_S = 10.0


class Guest:
    """A client in a guest, with few rights and low limits, whose xenstored can be made to answer late."""

    def __init__(self, host: Host) -> None:
        self.channels: list[HeldChannel] = []
        self._host = host
        self.store = StoreClient(self._connect)
        self.store.read("name")

    def _connect(self) -> HeldChannel:
        self.channels.append(HeldChannel(self._host.truth.store.connect(1)))
        return self.channels[-1]

    def session(self) -> Session:
        """The daemon's side."""
        (session,) = (one for one in self._host.truth.store.sessions if one.domid == 1)
        return session

    def too_late(self, action: Callable[[], object], deaf: bool = False) -> None:
        """Do what xenstored does not answer in time, or does not even take."""
        self.channels[0].hold()
        self.channels[0].deaf = deaf
        self.store.timeout = TOO_LATE_S
        with pytest.raises(StoreError, match="did not reply within 0.01 s") as caught:
            action()
        assert caught.value.errno == errno.ETIMEDOUT
        self.store.timeout = LONG_S
        self.channels[0].release()


@pytest.fixture
def guest(host: Host) -> Iterator[Guest]:
    found = Guest(host)
    yield found
    found.store.close()


def nothing(tx: Transaction) -> None:
    tx.read("name")


def test_a_transaction_whose_beginning_is_answered_too_late_is_ended(guest: Guest) -> None:
    for _ in range(20):
        guest.too_late(lambda: guest.store.transact(nothing))
    assert len(guest.session().transactions) > 10
    assert guest.store.read("name") == b"web1"
    assert guest.session().transactions == {}
    guest.store.transact(nothing)


def test_a_transaction_in_which_an_answer_comes_too_late_is_ended(guest: Guest) -> None:
    def slow(tx: Transaction) -> None:
        guest.channels[0].hold()
        guest.store.timeout = TOO_LATE_S
        tx.read("name")

    for _ in range(20):
        with pytest.raises(StoreError, match="did not reply"):
            guest.store.transact(slow)
        guest.channels[0].release()
        guest.store.timeout = LONG_S
        assert guest.session().transactions == {}


@pytest.mark.parametrize("end", [Transaction.commit, Transaction.abort])
def test_a_transaction_whose_end_cannot_be_sent_is_ended_later(
    guest: Guest, end: Callable[[Transaction], object]
) -> None:
    transaction = guest.store.begin()
    transaction.write("data/x", "1")
    guest.too_late(lambda: end(transaction), deaf=True)
    assert len(guest.session().transactions) == 1
    assert guest.store.read("data/x") is None
    assert guest.session().transactions == {}


def test_a_transaction_that_is_dropped_is_ended(guest: Guest) -> None:
    guest.store.begin()
    gc.collect()
    guest.store.read("name")
    assert guest.session().transactions == {}


def test_a_watch_that_is_answered_too_late_is_removed(guest: Guest) -> None:
    watch = guest.store.watch()
    for number in range(150):
        guest.too_late(partial(watch.add, f"data/{number}"))
    guest.store.read("name")
    assert guest.session().watches == []
    watch.add("data/last")
    assert [one.path for one in guest.session().watches] == ["/local/domain/1/data/last"]


def test_a_watch_that_cannot_be_removed_in_time_is_removed_later(guest: Guest) -> None:
    with guest.store.watch("data/a", "data/b") as watch:
        guest.too_late(lambda: watch.remove("data/a"), deaf=True)
        guest.store.read("name")
        assert [one.path for one in guest.session().watches] == ["/local/domain/1/data/b"]
        guest.channels[0].hold()
        guest.channels[0].deaf = True
    guest.channels[0].release()
    guest.store.read("name")
    assert guest.session().watches == []


def test_what_was_not_sent_in_time_is_never_sent(guest: Guest) -> None:
    guest.too_late(lambda: guest.store.write("data/x", "1"), deaf=True)
    assert guest.store.read("data/x") is None


def test_what_was_sent_in_part_is_sent_to_its_end(host: Host) -> None:
    class Narrow(HeldChannel):
        def send(self, data: bytes) -> int:
            taken = super().send(data[:10])
            self.deaf = True
            return taken

    channel = Narrow(host.truth.store.connect())
    with StoreClient(lambda: channel, timeout=TOO_LATE_S) as store:
        with pytest.raises(StoreError, match="nothing replies") as caught:
            store.write("/tool/x", "1")
        assert caught.value.errno == errno.ETIMEDOUT
        Narrow.send = HeldChannel.send  # type: ignore[method-assign]
        channel.release()
        store.timeout = LONG_S
        assert store.read("/tool/x") == b"1"


def test_requests_that_a_socket_took_in_part_are_sent_to_their_end(host: Host) -> None:
    class Narrow(HeldChannel):
        takes_several = True

        def send(self, data: bytes) -> int:
            sent.append(data)
            taken = super().send(data[:50])
            self.deaf = True
            return taken

    sent: list[bytes] = []
    paths = [f"/local/domain/{domid}/name" for domid in (1, 2, 3)]
    channel = Narrow(host.truth.store.connect())
    with StoreClient(lambda: channel, timeout=TOO_LATE_S) as store:
        with pytest.raises(StoreError, match="nothing replies"):
            store.read_many(paths)
        assert len(sent[0]) == sum(16 + len(path) + 1 for path in paths), "all are sent at once"
        Narrow.send = HeldChannel.send  # type: ignore[method-assign]
        channel.release()
        store.timeout = LONG_S
        assert store.read_many(paths[1:]) == [b"db1", b"build"]


@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_a_xenstored_that_never_answers_is_not_asked_without_end(guest: Guest, at_once: int) -> None:
    sent = []
    guest.channels[0].hold()
    guest.store.timeout = 0.0
    inner = guest.channels[0].inner
    guest.channels[0].inner = type("Counting", (), {"send": lambda _, data: sent.append(data) or len(data)})()
    for _ in range(1500):
        with pytest.raises(StoreError, match="did not reply"):
            guest.store.read_many(["name"] * at_once)
    assert 1024 - at_once < len(sent) <= 1024
    guest.channels[0].inner = inner


class Alarm(Exception):
    """What a signal handler raises to end what takes too long."""


def ring() -> None:
    raise Alarm


def _watch_and_forget(store: StoreClient) -> None:
    with store.watch("data") as watch:
        watch.add("data/deep")
        watch.remove("data/deep")


@pytest.mark.parametrize(
    "action",
    [
        lambda store: store.read("name"),
        lambda store: store.read_many(["name", "nothing", "name"]),
        lambda store: store.transact(lambda tx: tx.write("data/a", "1")),
        lambda store: store.begin().abort(),
        _watch_and_forget,
    ],
    ids=["read", "read_many", "transact", "begin", "watch"],
)
def test_interrupted_at_any_moment_nothing_stays_and_all_goes_on(
    guest: Guest, action: Callable[[StoreClient], Any]
) -> None:
    moments = 0
    for _ in at_every_moment(lambda: action(guest.store), ring, Alarm):
        moments += 1
        gc.collect(0)
        assert guest.store.read("name") == b"web1"
        assert guest.session().transactions == {}, f"after moment {moments}"
        assert guest.session().watches == [], f"after moment {moments}"
    assert moments > 20


def test_an_event_is_not_lost_when_taking_it_is_interrupted(guest: Guest) -> None:
    with guest.store.watch("data") as watch:
        watch.get(0)
        guest.store.write("data/a", "1")
        seen: list[Any] = []

        def take() -> None:
            seen.append(watch.get(0))

        for _ in at_every_moment(take, ring, Alarm):
            if not seen:
                take()
            assert [event and event.path for event in seen] == ["data/a"]
            seen.clear()
            guest.store.write("data/a", "1")


def test_a_real_alarm_interrupts_a_wait(guest: Guest) -> None:
    """The same with the kernel's signals, while xenstored is busy."""

    def handler(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(15):
            guest.channels[0].hold()
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            with pytest.raises(Alarm):
                guest.store.transact(nothing)
            guest.channels[0].release()
            assert guest.store.read("name") == b"web1"
            assert guest.session().transactions == {}
    finally:
        signal.signal(signal.SIGALRM, before)


def test_another_thread_that_waits_is_served_when_the_one_that_reads_is_interrupted(guest: Guest) -> None:
    """Of those that wait one reads for all; whoever it is may be interrupted."""
    taken: list[Any] = []
    with guest.store.watch("data") as watch:
        watch.get(0)
        waiter = threading.Thread(target=lambda: taken.append(watch.get(LONG_S)))
        for _ in at_every_moment(lambda: guest.store.read("name"), ring, Alarm):
            pass
        waiter.start()
        for moment in at_every_moment(lambda: guest.store.read("name"), ring, Alarm):
            if moment > 40:
                break
        guest.store.write("data/a", "1")
        waiter.join(LONG_S)
    assert [event.path for event in taken] == ["data/a"]
