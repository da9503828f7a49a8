# SPDX-License-Identifier: MIT
"""Event channels of dom0 through the kernel's device, from a 32-bit process through the gate."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import threading
from collections.abc import Iterator

import pytest

import pyxc
from pyxc import ChannelStatus, EventChannels, Virq, errors

NR_VIRQS = 24


@pytest.fixture
def channels(xen: pyxc.Xen) -> Iterator[EventChannels]:
    before = _descriptors()
    with xen.events() as opened:
        yield opened
    assert _descriptors() == before


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _connected(channels: EventChannels) -> tuple[int, int]:
    """Two ports of dom0 that ring each other, both quiet."""
    far = channels.bind_unbound(0)
    near = channels.bind_interdomain(0, far)
    assert channels.wait(10) == near
    return far, near


def test_dom0_rings_itself(channels: EventChannels) -> None:
    far, near = _connected(channels)
    assert channels.wait(0) is None
    channels.notify(near)
    assert channels.wait(10) == far
    channels.notify(far)
    assert channels.wait(10) == near
    assert channels.wait(0.05) is None


def test_rings_before_a_look_are_two_events_at_most(channels: EventChannels) -> None:
    far, near = _connected(channels)
    for _ in range(5):
        channels.notify(near)
    assert [channels.wait(1) for _ in range(3)] in ([far, far, None], [far, None, None])


def test_more_ports_than_the_kernels_first_ring_holds(channels: EventChannels) -> None:
    pairs = [_connected(channels) for _ in range(100)]
    for _, near in pairs:
        channels.notify(near)
    assert {channels.wait(10) for _ in pairs} == {far for far, _ in pairs}
    assert channels.wait(0.05) is None


def test_a_thread_waits_while_another_rings(channels: EventChannels) -> None:
    far, near = _connected(channels)
    heard: list[int | None] = []
    waiting = threading.Thread(target=lambda: heard.append(channels.wait(30)))
    waiting.start()
    channels.notify(near)
    waiting.join()
    assert heard == [far]


def test_events_in_a_loop(channels: EventChannels) -> None:
    async def listen(count: int) -> list[int]:
        heard = []
        async for port in channels:
            heard.append(port)
            if len(heard) == count:
                break
        return heard

    async def both() -> None:
        far, near = _connected(channels)
        listening = asyncio.create_task(listen(3))
        for _ in range(3):
            await asyncio.sleep(0.05)
            channels.notify(near)
        assert await asyncio.wait_for(listening, 30) == [far] * 3

    asyncio.run(both())


def test_the_descriptor_says_when_there_are_events(channels: EventChannels) -> None:
    readable = select.poll()
    readable.register(channels, select.POLLIN)
    far, near = _connected(channels)
    assert readable.poll(0) == []
    channels.notify(near)
    assert readable.poll(10_000) == [(channels.fileno(), select.POLLIN)]
    assert channels.wait(0) == far
    assert readable.poll(0) == []


def test_what_cannot_be_bound(channels: EventChannels) -> None:
    with pytest.raises(errors.HypercallError) as caught:
        channels.bind_virq(NR_VIRQS)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(errors.HypercallError, match="EEXIST"):
        channels.bind_virq(Virq.TIMER)
    with pytest.raises(errors.DomainNotFound):
        channels.bind_interdomain(0x7000, 1)
    with pytest.raises(errors.HypercallError) as caught:
        channels.bind_interdomain(0, 1)
    assert caught.value.errno == errno.EINVAL
    assert channels.ports == set()


def test_a_virq_has_one_holder(xen: pyxc.Xen, channels: EventChannels) -> None:
    port = channels.bind_virq(Virq.DOM_EXC)
    with xen.events() as others:
        with pytest.raises(errors.HypercallError, match="EEXIST.*xenstored"):
            others.bind_virq(Virq.DOM_EXC)
        channels.unbind(port)
        others.bind_virq(Virq.DOM_EXC)


def test_the_hypervisor_rings_when_a_domain_shuts_down_and_when_it_goes(
    channels: EventChannels, pv: pyxc.Domain
) -> None:
    port = channels.bind_virq(Virq.DOM_EXC)
    assert channels.wait(0.2) is None
    pv.shutdown()
    assert channels.wait(10) == port
    pv.destroy()
    assert channels.wait(10) == port


def test_restricted_to_a_domain(channels: EventChannels, pv: pyxc.Domain) -> None:
    guest_port = pv.channels.open()
    channels.restrict(pv.domid)
    port = channels.bind_interdomain(pv.domid, guest_port)
    for use in (
        lambda: channels.bind_interdomain(0, 1),
        lambda: channels.bind_unbound(0),
        lambda: channels.bind_virq(Virq.CON_RING),
        lambda: channels.restrict(1),
    ):
        with pytest.raises(errors.PermissionDenied, match="restricted"):
            use()
    assert channels.ports == {port}


@pytest.mark.usefixtures("unguarded")
def test_the_ports_are_in_the_hypervisors_list_until_they_are_closed(xen: pyxc.Xen) -> None:
    dom0 = xen.domains[0]
    with xen.events() as channels:
        far, near = _connected(channels)
        found = {channel.port: channel for channel in dom0.channels.ports()}
        assert found[far].status is found[near].status is ChannelStatus.INTERDOMAIN
        assert (found[far].remote_domid, found[far].remote_port) == (0, near)
        assert {channel.virq for channel in found.values()} >= {Virq.TIMER}
    assert not {far, near} & {channel.port for channel in dom0.channels.ports()}


@pytest.mark.usefixtures("unguarded")
def test_ports_of_a_paused_domain(pv: pyxc.Domain) -> None:
    ports = [pv.channels.open(), pv.channels.open()]
    assert [channel.port for channel in pv.channels.ports()] == ports
    pv.channels.reset()
    assert pv.channels.ports() == []


def test_a_child_leaves_the_parents_events_alone(channels: EventChannels) -> None:
    far, near = _connected(channels)
    channels.notify(near)
    child = os.fork()
    if child == 0:
        try:
            channels.wait(0)
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert channels.wait(10) == far


@pytest.mark.usefixtures("unguarded")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_many_that_come_and_go_leave_nothing(xen: pyxc.Xen) -> None:
    before = _descriptors(), len(xen.domains[0].channels.ports())
    for _ in range(200):
        channels = xen.events()
        channels.bind_unbound(0)
        del channels
    assert (_descriptors(), len(xen.domains[0].channels.ports())) == before
