# SPDX-License-Identifier: MIT
"""Event channels of a domain as the hypervisor lists them."""

from __future__ import annotations

import pytest
from hosts import Boot, Host

from pyxc import Channel, ChannelStatus, Virq, errors

ABSENT_PORT = 1 << 20


def test_a_guests_connections(any_host: Host) -> None:
    web1 = any_host.xen.domains["web1"]
    store, console = web1.channels.ports()
    assert (store.port, console.port) == (1, 2)
    assert store.status is console.status is ChannelStatus.INTERDOMAIN
    far = any_host.xen.domains[0].channels.status(store.remote_port or 0)
    assert (far.remote_domid, far.remote_port) == (1, 1)
    assert repr(web1.channels) == "<Channels of domain 1>"


def test_all_ports_of_dom0(host: Host) -> None:
    channels = host.xen.domains[0].channels
    found = channels.ports()
    assert [channel.virq for channel in found if channel.status is ChannelStatus.VIRQ] == [
        Virq.TIMER,
        Virq.DEBUG,
        Virq.CONSOLE,
        Virq.DOM_EXC,
    ]
    assert sum(channel.status is ChannelStatus.INTERDOMAIN for channel in found) == 6
    calls = host.link.hypercalls
    channels.ports()
    assert host.link.hypercalls == calls + 1


def test_more_ports_than_one_multicall_asks_for(host: Host) -> None:
    build = host.xen.domains["build"]
    opened = [build.channels.open() for _ in range(300)]
    assert [channel.port for channel in build.channels.ports()] == [1, 2, *opened]


def test_a_new_port_waits_for_whom_it_is_for(host: Host) -> None:
    channels = host.xen.domains[1].channels
    port = channels.open(2)
    assert channels.status(port) == Channel(port, ChannelStatus.UNBOUND, 0, remote_domid=2)


def test_closing_all_ports_of_a_paused_domain(any_host: Host) -> None:
    domain = any_host.xen.domains["build"]
    far = domain.channels.ports()[0].remote_port or 0
    domain.channels.reset()
    assert domain.channels.ports() == []
    assert any_host.xen.domains[0].channels.status(far).status is ChannelStatus.UNBOUND


def test_a_running_domain_keeps_its_ports(host: Host) -> None:
    with pytest.raises(errors.HypercallError, match=r"event_channel_op.reset on domain 1 failed: EINVAL"):
        host.xen.domains[1].channels.reset()
    with pytest.raises(ValueError, match="own domain"):
        host.xen.domains[0].channels.reset()
    assert len(host.xen.domains[1].channels.ports()) == 2


def test_what_is_not_there(boot: Boot) -> None:
    host = boot("4.17")
    web1 = host.xen.domains[1]
    with pytest.raises(errors.HypercallError, match="status on domain 1 failed: EINVAL"):
        web1.channels.status(ABSENT_PORT)
    web1.destroy()
    with pytest.raises(errors.DomainNotFound):
        web1.channels.ports()
    with pytest.raises(errors.DomainNotFound):
        web1.channels.reset()


def test_a_domain_that_goes_leaves_its_ports(host: Host) -> None:
    host.xen.domains[1].destroy()
    assert not any(
        channel.remote_domid == 1 and channel.status is ChannelStatus.INTERDOMAIN
        for channel in host.xen.domains[0].channels.ports()
    )
