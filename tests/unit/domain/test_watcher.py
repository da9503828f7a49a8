# SPDX-License-Identifier: MIT
"""The stream of domains that come, shut down and go."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid

import pytest
from hosts import RELEASES, Boot, Host

from pyxc import DomainChange, DomainEvent, DomainWatcher, ShutdownReason, errors
from pyxc.abi import domctl
from pyxc.abi.event_channel import Virq

LONG_S = 60.0
"""Longer than any test: what is reported earlier was not found by chance."""

each_source = pytest.mark.parametrize("source", ["xenstore", "virq", "poll"])
each_release = pytest.mark.parametrize("release", RELEASES)


def host_with(boot: Boot, source: str, release: str = "4.17") -> Host:
    """A host on which a source can be had: xenstored keeps the hypervisor's word for itself."""
    return boot(release, with_store=source != "virq")


def seen(watcher: DomainWatcher) -> list[DomainEvent]:
    return list(watcher.events(timeout=0))


@each_source
@each_release
def test_a_domains_life(boot: Boot, source: str, release: str) -> None:
    xen = host_with(boot, source, release).xen
    with xen.watch_domains(source) as watcher:
        assert seen(watcher) == []
        domain = xen.domains.create()
        created = DomainEvent(DomainChange.CREATED, domain.domid, domain.uuid, None)
        assert seen(watcher) == [created]
        domain.shutdown(ShutdownReason.REBOOT)
        shut_down = created._replace(change=DomainChange.SHUT_DOWN, reason=ShutdownReason.REBOOT)
        assert seen(watcher) == [shut_down]
        domain.destroy()
        assert seen(watcher) == [shut_down._replace(change=DomainChange.DIED)]
        assert seen(watcher) == []


def test_what_was_there_is_not_news(host: Host) -> None:
    host.xen.domains[2].shutdown()
    with host.xen.watch_domains() as watcher:
        assert watcher.wait(0) is None


def test_a_domain_that_is_killed_has_no_reason(host: Host) -> None:
    with host.xen.watch_domains() as watcher:
        host.xen.domains["web1"].destroy()
        event = watcher.wait(0)
        assert event is not None
        assert (event.change, event.domid, event.reason) == (DomainChange.DIED, 1, None)


def test_a_domain_that_stopped_before_it_was_seen(host: Host) -> None:
    with host.xen.watch_domains() as watcher:
        host.xen.domains.create().shutdown(ShutdownReason.CRASH)
        assert [(event.change, event.reason) for event in seen(watcher)] == [
            (DomainChange.CREATED, None),
            (DomainChange.SHUT_DOWN, ShutdownReason.CRASH),
        ]


def test_a_second_suspend_is_another_event(host: Host) -> None:
    domain = host.xen.domains["db1"]
    with host.xen.watch_domains() as watcher:
        for _ in range(2):
            domain.shutdown(ShutdownReason.SUSPEND)
            assert [event.change for event in seen(watcher)] == [DomainChange.SHUT_DOWN]
            domain.resume()
            assert seen(watcher) == []


def test_an_id_that_is_used_again(host: Host) -> None:
    first = host.xen.domains.create(domid=77)
    with host.xen.watch_domains() as watcher:
        first.destroy()
        second = host.xen.domains.create(domid=77, uuid=uuid.uuid4())
        assert [(event.change, event.uuid) for event in seen(watcher)] == [
            (DomainChange.DIED, first.uuid),
            (DomainChange.CREATED, second.uuid),
        ]


@each_source
@each_release
def test_who_holds_a_domain_hears_that_it_dies(boot: Boot, source: str, release: str) -> None:
    host = host_with(boot, source, release)
    web1 = host.xen.domains[1]
    with host.xen.watch_domains(source) as watcher:
        with web1.memory.map(min(host.owned(1))):
            host.xen.call(domctl.DESTROYDOMAIN, 1)
            dying = DomainEvent(DomainChange.DYING, 1, web1.uuid, None)
            assert seen(watcher) == [dying]
            assert seen(watcher) == []
        assert seen(watcher) == [dying._replace(change=DomainChange.DIED)]


def test_the_reason_of_a_domain_that_dies_is_kept(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    with host.xen.watch_domains() as watcher, web1.memory.map(min(host.owned(1))):
        web1.shutdown(ShutdownReason.CRASH)
        host.xen.call(domctl.DESTROYDOMAIN, 1)
        assert [(event.change, event.reason) for event in seen(watcher)] == [
            (DomainChange.SHUT_DOWN, ShutdownReason.CRASH),
            (DomainChange.DYING, ShutdownReason.CRASH),
        ]


def test_what_was_dying_before_is_not_news(host: Host) -> None:
    with host.xen.domains["web1"].memory.map(min(host.owned(1))):
        host.xen.call(domctl.DESTROYDOMAIN, 1)
        with host.xen.watch_domains() as watcher:
            assert seen(watcher) == []


@pytest.mark.parametrize("source", ["xenstore", "virq"])
def test_it_is_woken(boot: Boot, source: str) -> None:
    host = host_with(boot, source)
    with host.xen.watch_domains(source, interval=LONG_S) as watcher:
        watcher.wait(0)
        dying = threading.Timer(0.02, host.xen.domains[1].destroy)
        dying.start()
        started = time.monotonic()
        event = watcher.wait(LONG_S)
        assert time.monotonic() - started < LONG_S / 2
        dying.join()
        assert event is not None and event.domid == 1


@each_source
def test_a_new_domain_is_found_within_the_interval(boot: Boot, source: str) -> None:
    host = host_with(boot, source)
    with host.xen.watch_domains(source, interval=0.02) as watcher:
        watcher.wait(0)
        coming = threading.Timer(0.05, host.xen.domains.create)
        coming.start()
        event = watcher.wait(LONG_S)
        coming.join()
        assert event is not None and event.change is DomainChange.CREATED


def test_waiting_ends_in_time(host: Host) -> None:
    with host.xen.watch_domains("poll", interval=LONG_S) as watcher:
        started = time.monotonic()
        assert watcher.wait(0.05) is None
        assert 0.05 <= time.monotonic() - started < LONG_S / 2


@each_source
def test_in_a_loop(boot: Boot, source: str) -> None:
    host = host_with(boot, source)

    async def listen(watcher: DomainWatcher) -> DomainEvent:
        async for event in watcher:
            return event
        raise AssertionError("the events came to an end")

    async def both(watcher: DomainWatcher) -> None:
        listening = asyncio.create_task(listen(watcher))
        await asyncio.sleep(0.05)
        host.xen.domains[1].destroy()
        event = await asyncio.wait_for(listening, LONG_S)
        assert (event.change, event.domid) == (DomainChange.DIED, 1)

    with host.xen.watch_domains(source, interval=0.1) as watcher:
        asyncio.run(both(watcher))


def test_the_source_is_the_best_there_is(boot: Boot) -> None:
    with boot().xen.watch_domains() as watcher:
        assert watcher.source == "xenstore"
        assert repr(watcher) == "<DomainWatcher of sim:xen-4.17 by xenstore>"
    with boot(with_store=False).xen.watch_domains() as watcher:
        assert watcher.source == "poll"


def test_xenstored_can_start_after_a_watcher(boot: Boot) -> None:
    xen = boot(with_store=False).xen
    with xen.watch_domains(), xen.events() as xenstored:
        assert xenstored.bind_virq(Virq.DOM_EXC)


def test_a_source_that_is_not_there(boot: Boot) -> None:
    with pytest.raises(errors.HypercallError, match="EEXIST"):
        boot().xen.watch_domains("virq")
    with pytest.raises(errors.StoreError, match="no xenstored"):
        boot(with_store=False).xen.watch_domains("xenstore")


def test_an_introduced_domain_wakes_it(host: Host) -> None:
    with host.xen.watch_domains(interval=LONG_S) as watcher:
        domain = host.xen.domains.create()
        port = domain.channels.open()
        coming = threading.Timer(0.02, host.xen.store.introduce, (domain.domid, 1, port))
        coming.start()
        event = watcher.wait(LONG_S)
        coming.join()
        assert event is not None and event.change is DomainChange.CREATED


def test_each_event_goes_to_one_thread(host: Host) -> None:
    with host.xen.watch_domains("poll", interval=0.01) as watcher:
        found: list[DomainEvent | None] = []
        threads = [threading.Thread(target=lambda: found.append(watcher.wait(LONG_S))) for _ in range(4)]
        for thread in threads:
            thread.start()
        made = {host.xen.domains.create().domid for _ in threads}
        for thread in threads:
            thread.join()
        assert sorted(event.domid for event in found if event) == sorted(made)


@each_source
def test_a_read_only_handle_watches(boot: Boot, source: str) -> None:
    xen = boot(with_store=source != "virq", readonly=True).xen
    with xen.watch_domains(source) as watcher:
        assert watcher.source == source


@pytest.mark.usefixtures("no_collection")
@each_source
def test_closing_gives_everything_back(boot: Boot, source: str) -> None:
    host = host_with(boot, source)
    before = len(os.listdir("/proc/self/fd"))
    watcher = host.xen.watch_domains(source)
    watcher.close()
    watcher.close()
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ValueError, match="closed"):
        watcher.wait(0)
    host.xen.watch_domains(source).close()


def test_what_makes_no_sense(host: Host) -> None:
    with pytest.raises(ValueError, match="source is 'smoke signals'.*virq, xenstore, poll"):
        host.xen.watch_domains("smoke signals")
    with pytest.raises(ValueError, match="interval"):
        host.xen.watch_domains(interval=0)
