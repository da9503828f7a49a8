# SPDX-License-Identifier: MIT
"""Events and grants of guests that xl made, beside xenstored and xenconsoled."""

from __future__ import annotations

import pytest
from ground_truth import Guests, Peer

import pyxc
from pyxc import DomainChange, DomainWatcher, ShutdownReason, Virq, errors
from pyxc.abi.grant_table import Reserved

LONG_S = 60.0
RING_OUT = 1024


def _next(watcher: DomainWatcher) -> tuple[DomainChange, ShutdownReason | int | None]:
    event = watcher.wait(LONG_S)
    assert event is not None
    return event.change, event.reason


def _end(watcher: DomainWatcher) -> tuple[DomainChange, object]:
    """The next event but DYING: that can be over before anybody looks."""
    found = _next(watcher)
    return _next(watcher) if found[0] is DomainChange.DYING else found


def test_xenstored_has_what_the_hypervisor_says_of_domains(xen: pyxc.Xen, peer: Peer) -> None:
    with xen.events() as channels, pytest.raises(errors.HypercallError, match="EEXIST.*xenstored"):
        channels.bind_virq(Virq.DOM_EXC)


def test_xenstored_tells_of_guests_that_come_and_go(xen: pyxc.Xen, peer: Peer) -> None:
    """With an interval that no test outlasts, only xenstored can have brought these."""
    with xen.watch_domains(interval=10 * LONG_S) as watcher:
        assert watcher.source == "xenstore"
        peer.create("pv", 'name="watched"', 'cmdline="b"')
        created = watcher.wait(LONG_S)
        assert created is not None and created.change is DomainChange.CREATED
        assert created.domid == peer.domid("watched")
        assert xen.domains[created.uuid].domid == created.domid
        peer.xl("destroy", "watched")
        assert _end(watcher) == (DomainChange.DIED, None)


def test_a_guest_that_powers_off(xen: pyxc.Xen, peer: Peer) -> None:
    with xen.watch_domains(interval=10 * LONG_S) as watcher:
        peer.create("pv", 'name="brief"', 'cmdline="q"', 'on_poweroff="preserve"')
        assert _next(watcher) == (DomainChange.CREATED, None)
        assert _next(watcher) == (DomainChange.SHUT_DOWN, ShutdownReason.POWEROFF)
        peer.xl("destroy", "brief")
        assert _end(watcher) == (DomainChange.DIED, ShutdownReason.POWEROFF)


@pytest.mark.parametrize("name", ["pv", "pvh"])
def test_a_guests_console_by_its_grant(xen: pyxc.Xen, guests: Guests, name: str) -> None:
    domain = xen.domains[guests.domids[name]]
    with domain.grants.map(Reserved.CONSOLE) as ring, memoryview(ring) as view:
        said = bytes(view[RING_OUT : RING_OUT + 64])
    assert said.startswith(f"pyxc {name.upper()} guest: line 1".encode())


@pytest.mark.usefixtures("unguarded")
@pytest.mark.parametrize("name", ["pv", "pvh", "linux"])
def test_a_guests_connections_to_dom0(xen: pyxc.Xen, guests: Guests, name: str) -> None:
    domain = xen.domains[guests.domids[name]]
    store, console = domain.channels.ports()[:2]
    for channel in (store, console):
        assert channel.remote_domid == 0
        far = xen.domains[0].channels.status(channel.remote_port or 0)
        assert (far.remote_domid, far.remote_port) == (domain.domid, channel.port)
