# SPDX-License-Identifier: MIT
"""Domains that come, shut down and go, as the hypervisor tells of them; no xenstored is running yet."""

from __future__ import annotations

import asyncio
import threading

import pytest

import pyxc
from pyxc import DomainChange, DomainEvent, DomainWatcher, ShutdownReason, Virq
from pyxc.abi import domctl

LONG_S = 60.0


def _next(watcher: DomainWatcher) -> DomainEvent | None:
    """The next event but DYING: that can be over before anybody looks."""
    events = (event for event in watcher.events(LONG_S) if event.change is not DomainChange.DYING)
    return next(events, None)


def _life(watcher: DomainWatcher, count: int) -> list[tuple[DomainChange, object]]:
    found = [_next(watcher) for _ in range(count)]
    return [(event.change, event.reason) for event in found if event is not None]


@pytest.mark.parametrize("source", ["virq", "poll"])
def test_a_domains_life(xen: pyxc.Xen, source: str) -> None:
    with xen.watch_domains(source, interval=0.05) as watcher:
        assert watcher.source == source
        domain = xen.domains.create()
        created = watcher.wait(LONG_S)
        assert created == DomainEvent(DomainChange.CREATED, domain.domid, domain.uuid, None)
        domain.shutdown(ShutdownReason.REBOOT)
        assert _life(watcher, 1) == [(DomainChange.SHUT_DOWN, ShutdownReason.REBOOT)]
        domain.destroy()
        assert _life(watcher, 1) == [(DomainChange.DIED, ShutdownReason.REBOOT)]
        assert watcher.wait(0.1) is None


def test_the_hypervisor_wakes_it(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    """With an interval that no test outlasts, only VIRQ_DOM_EXC can have brought these."""
    with xen.watch_domains("virq", interval=10 * LONG_S) as watcher:
        for action, change in ((pv.shutdown, DomainChange.SHUT_DOWN), (pv.destroy, DomainChange.DIED)):
            acting = threading.Timer(0.2, action)
            acting.start()
            event = _next(watcher)
            acting.join()
            assert event is not None
            assert (event.change, event.domid, event.uuid) == (change, pv.domid, pv.uuid)


def test_in_a_loop(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    async def listen(watcher: DomainWatcher) -> DomainEvent:
        async for event in watcher:
            if event.change is not DomainChange.DYING:
                return event
        raise AssertionError("the events came to an end")

    async def both(watcher: DomainWatcher) -> None:
        listening = asyncio.create_task(listen(watcher))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(pv.destroy)
        event = await asyncio.wait_for(listening, LONG_S)
        assert (event.change, event.domid) == (DomainChange.DIED, pv.domid)

    with xen.watch_domains("virq") as watcher:
        asyncio.run(both(watcher))


def test_who_maps_a_domain_hears_that_it_dies(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    with xen.watch_domains("virq", interval=10 * LONG_S) as watcher:
        with pv.memory.map(pv.memory.increase(1)[0]):
            xen.call(domctl.DESTROYDOMAIN, pv.domid)
            event = watcher.wait(LONG_S)
            assert event is not None and (event.change, event.domid) == (DomainChange.DYING, pv.domid)
        assert _life(watcher, 1) == [(DomainChange.DIED, None)]


def test_nothing_takes_the_hypervisors_word_from_xenstored(xen: pyxc.Xen) -> None:
    with xen.watch_domains() as watcher, xen.events() as xenstored:
        assert watcher.source == "poll"
        assert xenstored.bind_virq(Virq.DOM_EXC)
