# SPDX-License-Identifier: MIT
"""Domains that come, shut down and go, as the hypervisor tells of them; no xenstored is running yet."""

from __future__ import annotations

import asyncio
import threading

import pytest

import pyxc
from pyxc import DomainChange, DomainEvent, DomainWatcher, ShutdownReason

LONG_S = 60.0


def _life(watcher: DomainWatcher, count: int) -> list[tuple[DomainChange, object]]:
    found = [watcher.wait(LONG_S) for _ in range(count)]
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
            event = watcher.wait(LONG_S)
            acting.join()
            assert event is not None
            assert (event.change, event.domid, event.uuid) == (change, pv.domid, pv.uuid)


def test_in_a_loop(xen: pyxc.Xen, pv: pyxc.Domain) -> None:
    async def listen(watcher: DomainWatcher) -> DomainEvent:
        async for event in watcher:
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


def test_without_xenstored_it_is_the_hypervisors_word(xen: pyxc.Xen) -> None:
    with xen.watch_domains() as first, xen.watch_domains() as second:
        assert (first.source, second.source) == ("virq", "poll")
