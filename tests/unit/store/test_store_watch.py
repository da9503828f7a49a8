# SPDX-License-Identifier: MIT
"""Waiting for changes in the xenstore of a simulated host, in every way that there is."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts import Host

from pyxc.errors import StoreError
from pyxc.store import Event, StoreClient, Watch
from pyxc.store.watch import EVENTS_MOST

A_SECOND = 10.0
"""How long a test waits for what comes at once."""


@pytest.fixture
def store(host: Host) -> StoreClient:
    return host.xen.store


def paths(watch: Watch) -> list[str]:
    """What waits to be taken."""
    found = []
    while (event := watch.get(0)) is not None:
        found.append(event.path)
    return found


def test_a_watch_fires_at_once_and_then_at_each_change_below(store: StoreClient) -> None:
    with store.watch("/tool/test") as watch:
        assert watch.get(A_SECOND) == Event("/tool/test", "/tool/test")
        store.write("/tool/test/a", "1")
        store.write("/tool/testing", "1")
        store.set_permissions("/tool/test/a", ["n1"])
        store.mkdir("/tool/test/b")
        store.mkdir("/tool/test/b")
        store.remove("/tool")
        assert paths(watch) == ["/tool/test/a", "/tool/test/b", "/tool/test"]
        assert watch.get(0.01) is None


def test_one_watch_of_several_paths_with_tokens(store: StoreClient) -> None:
    token = object()
    with store.watch("/a", "/b") as watch:
        watch.add("/a/deep", token)
        assert [watch.get(0) for _ in range(4)] == [("/a", "/a"), ("/b", "/b"), ("/a/deep", token), None]
        store.write("/a/deep/node", "1")
        first, second = watch.get(0), watch.get(0)
        assert first == ("/a/deep/node", "/a")
        assert second is not None and second.token is token
        watch.remove("/a")
        store.write("/a/deep/node", "2")
        assert watch.get(0) == ("/a/deep/node", token)
        watch.remove("/a/deep", token)
        store.write("/a/deep/node", "3")
        assert watch.get(0) is None


def test_what_is_removed_fires_no_more_not_even_what_waits(store: StoreClient) -> None:
    with store.watch("/a", "/b") as watch:
        watch.remove("/a")
        assert paths(watch) == ["/b"]
        for path, token in (("/a", None), ("/b", "mine"), ("/c", None)):
            with pytest.raises(KeyError, match="does not cover"):
                watch.remove(path, token)


def test_events_that_say_the_same_are_one(store: StoreClient) -> None:
    with store.watch("/a") as watch:
        for number in range(100):
            store.write("/a", str(number))
            store.write("/a/b", str(number))
        assert paths(watch) == ["/a", "/a/b"]
        store.write("/a", "again")
        assert paths(watch) == ["/a"]


def test_more_events_than_anybody_takes_become_one_for_each_path(host: Host, store: StoreClient) -> None:
    with store.watch("/local/domain/1/data", "/tool/quiet") as watch:
        watch.add("/local/domain/1", "mine")
        with StoreClient(lambda: host.truth.store.connect(1)) as guest:
            for number in range(3 * EVENTS_MOST):
                guest.write(f"data/{number}", "")
                guest.remove(f"data/{number}")
                if number % 100 == 0:
                    store.read("/tool")
        store.read("/tool")
        found = [watch.get(0) for _ in range(3)]
        assert found == [
            ("/local/domain/1/data", "/local/domain/1/data"),
            ("/tool/quiet", "/tool/quiet"),
            ("/local/domain/1", "mine"),
        ]
        assert watch.get(0) is None
        store.write("/local/domain/1/data/x", "1")
        assert paths(watch) == ["/local/domain/1/data/x"] * 2, "after that they are told apart again"


def test_domains_that_come_and_go(host: Host, store: StoreClient) -> None:
    with store.watch("@introduceDomain", "@releaseDomain") as watch:
        assert paths(watch) == ["@introduceDomain", "@releaseDomain"]
        host.xen.domains["web1"].shutdown()
        assert paths(watch) == ["@releaseDomain"]
        host.xen.domains["web1"].destroy()
        assert paths(watch) == ["@releaseDomain"]
        host.xen.domains["db1"].pause()
        assert paths(watch) == []
        store.release(2)
        assert paths(watch) == ["@releaseDomain"]
        host.truth.store.add(2, 1)
        assert paths(watch) == ["@introduceDomain"]


def test_a_refused_watch_leaves_nothing(store: StoreClient) -> None:
    with store.watch() as watch:
        with pytest.raises(ValueError, match="not a path"):
            watch.add("/a/")
        with pytest.raises(StoreError, match="xenstore watch of .* failed: EINVAL"):
            watch.add("/" + "a" * 3000)
        with pytest.raises(StoreError):
            store.watch("/a", "/" + "a" * 3000)
        store.write("/a", "1")
        assert watch.get(0) is None


def test_waiting_in_one_thread_while_others_ask(store: StoreClient) -> None:
    with store.watch("/a") as watch:
        watch.get(A_SECOND)
        seen: queue.Queue[Event | None] = queue.Queue()
        waiter = threading.Thread(target=lambda: seen.put(watch.get(A_SECOND)))
        waiter.start()
        askers = [
            threading.Thread(target=lambda: [store.read("/local/domain/1/name") for _ in range(100)])
            for _ in range(4)
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        assert seen.empty()
        store.write("/a", "1")
        assert seen.get(timeout=A_SECOND) == ("/a", "/a")
        waiter.join()


def test_each_event_goes_to_one_of_those_who_wait(store: StoreClient) -> None:
    with store.watch() as watch:
        seen: queue.Queue[str] = queue.Queue()
        threads = [watch.call(lambda event: seen.put(event.path)) for _ in range(3)]
        watch.add("/a")
        for number in range(20):
            store.write(f"/a/{number}", "")
        expected = {"/a", *(f"/a/{number}" for number in range(20))}
        assert {seen.get(timeout=A_SECOND) for _ in expected} == expected
        assert seen.empty()
    for thread in threads:
        thread.join(A_SECOND)
        assert not thread.is_alive()


def test_a_function_is_called_until_the_watch_is_closed(store: StoreClient) -> None:
    seen: queue.Queue[Event] = queue.Queue()
    with store.watch("/a") as watch:
        thread = watch.call(seen.put)
        assert seen.get(timeout=A_SECOND) == ("/a", "/a")
        store.write("/a/b", "1")
        assert seen.get(timeout=A_SECOND) == ("/a/b", "/a")
        assert thread.is_alive()
    thread.join(A_SECOND)
    assert not thread.is_alive()


@pytest.mark.parametrize("close", [lambda watch, store: watch.close(), lambda watch, store: store.close()])
def test_closing_ends_waiting(store: StoreClient, close: Callable[[Watch, StoreClient], None]) -> None:
    watch = store.watch("/a")
    events = iter(watch)
    assert next(events).path == "/a"
    closer = threading.Timer(0.05, close, (watch, store))
    closer.start()
    started = time.monotonic()
    assert next(events, None) is None
    assert time.monotonic() - started < A_SECOND
    closer.join()
    with pytest.raises(ValueError, match="is closed"):
        watch.get(0)
    with pytest.raises(ValueError, match="is closed"):
        watch.add("/b")
    watch.close()


def test_the_descriptor_is_readable_when_there_is_something(store: StoreClient) -> None:
    def readable() -> bool:
        return bool(select.select([watch], [], [], 0)[0])

    with store.watch("/a") as watch:
        assert readable()
        assert watch.get(0) == ("/a", "/a")
        assert not readable()
        store.write("/a", "1")
        assert store.read("/a") == b"1", "brings the event along"
        assert readable()
        store.write("/a/b", "1")
        assert paths(watch) == ["/a", "/a/b"]
        assert not readable()


def test_events_in_asyncio(host: Host, store: StoreClient) -> None:
    async def collect(watch: Watch, count: int) -> list[str]:
        found: list[str] = []
        async for event in watch:
            found.append(event.path)
            if len(found) == count:
                break
        return found

    async def main() -> list[list[str]]:
        with store.watch("/a") as first, store.watch("/b") as second:
            tasks = [asyncio.create_task(collect(watch, 2)) for watch in (first, second)]
            await asyncio.sleep(0.01)
            store.write("/b", "1")
            with StoreClient(host.truth.store.connect) as other:
                other.write("/a/c", "1")
            return await asyncio.wait_for(asyncio.gather(*tasks), A_SECOND)

    assert asyncio.run(main()) == [["/a", "/a/c"], ["/b", "/b"]]


@pytest.mark.parametrize("close", [lambda watch, store: watch.close(), lambda watch, store: store.close()])
def test_closing_ends_waiting_in_asyncio(
    store: StoreClient, close: Callable[[Watch, StoreClient], None]
) -> None:
    async def main() -> list[Event]:
        watch = store.watch("/a")
        asyncio.get_running_loop().call_later(0.05, close, watch, store)
        return [event async for event in watch]

    assert asyncio.run(asyncio.wait_for(main(), A_SECOND)) == [("/a", "/a")]


def test_cancelling_a_wait_in_asyncio_takes_nothing_from_the_next(store: StoreClient) -> None:
    async def first(watch: Watch) -> str:
        async for event in watch:
            return event.path
        raise AssertionError

    async def main() -> str:
        with store.watch("/a") as watch:
            assert await first(watch) == "/a"
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(first(watch), 0.01)
            store.write("/a/b", "1")
            return await asyncio.wait_for(first(watch), A_SECOND)

    assert asyncio.run(main()) == "/a/b"


def test_nothing_is_left_behind(host: Host) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    gc.collect()
    before = descriptors()
    for _ in range(3):
        with StoreClient(host.truth.store.connect) as store:
            for _ in range(3):
                with store.watch("/a", "@releaseDomain") as watch:
                    os.fstat(watch.fileno())
    forgotten = StoreClient(host.truth.store.connect)
    forgotten.watch("/a").fileno()
    del watch, forgotten
    gc.collect()
    assert descriptors() == before
    assert host.truth.store.sessions == []
