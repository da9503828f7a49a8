# SPDX-License-Identifier: MIT
"""Signal handlers that use xenstore, at every moment at which they can run."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hosts import Host
from interrupts import at_every_moment

from pyxc.store import StoreClient, Transaction, Watch

LONG_S = 10.0


USES: dict[str, Callable[[StoreClient], object]] = {
    "read": lambda store: store.read("/local/domain/1/name"),
    "read_many": lambda store: store.read_many(["/local/domain/1/name", "/tool/main"]),
    "transact": lambda store: store.transact(lambda tx: tx.write("/tool/main", "1")),
    "watch": lambda store: store.watch("/tool/main").close(),
}


@pytest.fixture
def store(host: Host) -> Iterator[StoreClient]:
    with StoreClient(host.truth.store.connect, timeout=LONG_S) as opened:
        opened.read("/tool")
        yield opened


@pytest.mark.parametrize("interrupted", USES)
@pytest.mark.parametrize("handler", USES)
def test_a_handler_may_use_the_client_that_it_interrupts(
    host: Host, store: StoreClient, interrupted: str, handler: str
) -> None:
    began = time.monotonic()
    for _ in at_every_moment(lambda: USES[interrupted](store), lambda: USES[handler](store) and None):
        assert store.read("/local/domain/1/name") == b"web1"
    assert time.monotonic() - began < LONG_S, "nothing waited for itself"
    sessions = host.truth.store.sessions
    assert all(session.watches == [] and session.transactions == {} for session in sessions)
    assert len(sessions) < 5, "a connection for handlers is used again"


@pytest.mark.parametrize("use", USES)
def test_a_handler_may_close_the_client_that_it_interrupts(host: Host, use: str) -> None:
    clients: list[StoreClient] = []

    def opened() -> None:
        clients.append(StoreClient(host.truth.store.connect, timeout=LONG_S))
        USES[use](clients[-1])

    began = time.monotonic()
    for _ in at_every_moment(opened, lambda: clients[-1].close() if clients else None, ValueError):
        clients[-1].close()
        with pytest.raises(ValueError, match="closed"):
            clients[-1].read("/tool")
    clients[-1].close()
    assert time.monotonic() - began < 3 * LONG_S
    assert host.truth.store.sessions == []


def test_a_handler_may_open_the_connection_that_the_interrupted_code_opens(host: Host) -> None:
    clients = [StoreClient(host.truth.store.connect)]
    for _ in at_every_moment(
        lambda: clients[-1].read("/tool"), lambda: clients[-1].read("/local/domain/1/name") and None
    ):
        clients[-1].close()
        clients.append(StoreClient(host.truth.store.connect))
    clients[-1].close()
    assert host.truth.store.sessions == []


def _interrupting(wait: Callable[[], Any], handler: Callable[[], object]) -> Any:
    """What a wait comes to that a real signal interrupts."""
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        return wait()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_handler_asks_while_the_interrupted_code_waits_for_an_event(store: StoreClient) -> None:
    found: list[object] = []
    with store.watch("/tool/x") as watch:
        watch.get(0)

        def handler() -> None:
            found.append(store.read("/local/domain/1/name"))
            store.write("/tool/x", "1")

        assert _interrupting(lambda: watch.get(LONG_S), handler) == ("/tool/x", "/tool/x")
    assert found == [b"web1"]


@pytest.mark.parametrize("close", [Watch.close, lambda watch: watch._session.close()])
def test_a_handler_ends_the_wait_that_it_interrupts(host: Host, close: Callable[[Watch], None]) -> None:
    with StoreClient(host.truth.store.connect) as store:
        watch = store.watch("/tool/x")
        began = time.monotonic()
        assert [event.path for event in _interrupting(lambda: list(watch), lambda: close(watch))] == [
            "/tool/x"
        ]
        assert time.monotonic() - began < LONG_S
        assert host.truth.store.sessions == [] or host.truth.store.sessions[0].watches == []


def test_a_handler_ends_the_wait_while_another_thread_reads(store: StoreClient) -> None:
    watch, other = store.watch("/tool/x"), store.watch("/tool/y")
    for one in (watch, other):
        one.get(0)
    reader = threading.Thread(target=lambda: other.get(LONG_S))
    reader.start()
    with pytest.raises(ValueError, match="this watch is closed"):
        _interrupting(watch.get, watch.close)
    store.write("/tool/y", "1")
    reader.join(LONG_S)
    assert not reader.is_alive()


def test_what_belongs_to_the_interrupted_connection_is_refused_in_words(store: StoreClient) -> None:
    refused: list[str] = []
    transaction = store.begin()
    with store.watch("/tool/x") as watch:
        watch.get(0)

        def handler() -> None:
            uses: tuple[Callable[[], object], ...] = (
                lambda: transaction.read("/tool"),
                lambda: watch.get(0),
                lambda: watch.add("/tool/y"),
            )
            for use in uses:
                with pytest.raises(
                    RuntimeError, match="this signal handler interrupted a request on the same"
                ):
                    use()
                refused.append("")
            store.write("/tool/x", "1")

        _interrupting(lambda: watch.get(LONG_S), handler)
    assert len(refused) == 3
    transaction.abort()


def test_threads_and_handlers_together(store: StoreClient) -> None:
    """Many at once: whoever reads may be the one that a handler interrupts."""
    stop = threading.Event()
    wrong: list[object] = []

    def ask() -> None:
        while not stop.is_set():
            if store.read("/local/domain/2/name") != b"db1":
                wrong.append("another's answer")

    def count(tx: Transaction) -> None:
        tx.write("/tool/count", str(int(tx.read("/tool/count") or 0) + 1))

    signals: list[object] = []

    def handler(*_: object) -> None:
        signals.append(store.read("/local/domain/3/name"))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    before = signal.signal(signal.SIGALRM, handler)
    try:
        for thread in threads:
            thread.start()
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for _ in range(300):
            store.transact(count)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
        for thread in threads:
            thread.join(LONG_S)
    assert (wrong, store.read("/tool/count")) == ([], b"300")
    assert set(signals) == {b"build"}
