# SPDX-License-Identifier: MIT
"""Event channels of this domain: bound, rung, waited for, and closed."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import threading
import time

import pytest
from hosts import RELEASES, Boot, Host

from pyxc import ChannelStatus, EventChannels, Virq, errors

ABSENT_DOMID = 0x7000

each_release = pytest.mark.parametrize("release", RELEASES)


def connected(channels: EventChannels) -> tuple[int, int]:
    """Two ports of dom0 that ring each other, both quiet."""
    far = channels.bind_unbound(0)
    near = channels.bind_interdomain(0, far)
    assert channels.wait(0) == near
    return far, near


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_port_rings_the_other_end(any_host: Host) -> None:
    with any_host.xen.events() as channels:
        far, near = connected(channels)
        assert channels.ports == {far, near}
        assert channels.wait(0) is None
        channels.notify(near)
        assert (channels.wait(), channels.wait(0)) == (far, None)
        channels.notify(far)
        assert channels.wait(10) == near


def test_a_new_connection_fires_at_once(host: Host) -> None:
    """Whoever rang before there was somebody to hear it is heard."""
    guest_port = host.xen.domains[1].channels.open()
    with host.xen.events() as channels:
        port = channels.bind_interdomain(1, guest_port)
        assert channels.wait(0) == port


def test_a_guest_rings(host: Host) -> None:
    guest_port = host.xen.domains[1].channels.open()
    with host.xen.events() as channels:
        port = channels.bind_interdomain(1, guest_port)
        channels.wait(0)
        host.truth.ring(1, guest_port)
        assert channels.wait(0) == port


def test_rings_before_a_look_are_two_events_at_most(host: Host) -> None:
    """The first is reported; all others, which find the port masked, are the second."""
    with host.xen.events() as channels:
        far, near = connected(channels)
        for _ in range(3):
            channels.notify(near)
        assert [channels.wait(0) for _ in range(3)] == [far, far, None]


def test_a_ring_after_a_look_is_another_event(host: Host) -> None:
    with host.xen.events() as channels:
        far, near = connected(channels)
        for _ in range(3):
            channels.notify(near)
            assert channels.wait(0) == far


def test_every_port_that_fired_is_reported(host: Host) -> None:
    with host.xen.events() as channels:
        pairs = [connected(channels) for _ in range(20)]
        for _, near in pairs:
            channels.notify(near)
        assert [channels.wait(0) for _ in pairs] == [far for far, _ in pairs]
        assert channels.wait(0) is None


def test_waiting_ends_in_time(host: Host) -> None:
    with host.xen.events() as channels:
        connected(channels)
        started = time.monotonic()
        assert channels.wait(0.05) is None
        assert 0.05 <= time.monotonic() - started < 5


def test_a_thread_waits_while_another_rings(host: Host) -> None:
    with host.xen.events() as channels:
        far, near = connected(channels)
        heard: list[int | None] = []
        waiting = threading.Thread(target=lambda: heard.append(channels.wait(10)))
        waiting.start()
        channels.notify(near)
        waiting.join()
        assert heard == [far]


def test_each_event_goes_to_one_of_the_threads_that_wait(host: Host) -> None:
    with host.xen.events() as channels:
        pairs = [connected(channels) for _ in range(8)]
        heard: list[int | None] = []
        threads = [threading.Thread(target=lambda: heard.append(channels.wait(10))) for _ in pairs]
        for thread in threads:
            thread.start()
        for _, near in pairs:
            channels.notify(near)
        for thread in threads:
            thread.join()
        assert sorted(heard, key=str) == sorted((far for far, _ in pairs), key=str)


def test_the_descriptor_is_readable_while_there_are_events(host: Host) -> None:
    with host.xen.events() as channels:
        readable = select.poll()
        readable.register(channels, select.POLLIN)
        pairs = [connected(channels) for _ in range(2)]
        assert readable.poll(0) == []
        for _, near in pairs:
            channels.notify(near)
        for far, _ in pairs:
            assert readable.poll(0) == [(channels.fileno(), select.POLLIN)]
            assert channels.wait(0) == far
        assert readable.poll(0) == []


def test_events_in_a_loop(host: Host) -> None:
    async def listen(channels: EventChannels, count: int) -> list[int]:
        heard = []
        async for port in channels:
            heard.append(port)
            if len(heard) == count:
                return heard
        raise AssertionError("the events came to an end")

    async def both(channels: EventChannels) -> list[int]:
        far, near = connected(channels)
        listening = asyncio.create_task(listen(channels, 3))
        for _ in range(3):
            await asyncio.sleep(0.01)
            channels.notify(near)
        assert await asyncio.wait_for(listening, 10) == [far] * 3
        return [far]

    with host.xen.events() as channels:
        assert asyncio.run(both(channels))


def test_a_task_that_listens_can_be_cancelled(host: Host) -> None:
    async def listen_for_a_moment(channels: EventChannels) -> None:
        async def listen() -> None:
            async for _ in channels:
                raise AssertionError("nothing rang")

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(listen(), 0.02)

    with host.xen.events() as channels:
        connected(channels)
        asyncio.run(listen_for_a_moment(channels))


def test_when_the_kernels_ring_is_full_nothing_is_missed(host: Host) -> None:
    host.truth.event_ring = 2
    with host.xen.events() as channels:
        pairs = [connected(channels) for _ in range(4)]
        for _, near in pairs:
            channels.notify(near)
        heard = {channels.wait(0) for _ in range(8)}
        assert {far for far, _ in pairs} <= heard
        assert channels.wait(0) is None
        channels.notify(pairs[3][1])
        assert channels.wait(0) == pairs[3][0]


@each_release
def test_the_hypervisor_rings_when_a_domain_shuts_down_or_goes(boot: Boot, release: str) -> None:
    xen = boot(release, with_store=False).xen
    with xen.events() as channels:
        port = channels.bind_virq(Virq.DOM_EXC)
        xen.domains[2].shutdown()
        assert channels.wait(0) == port
        xen.domains[2].shutdown()
        assert channels.wait(0) is None
        xen.domains[3].destroy()
        assert channels.wait(0) == port


def test_xenstored_has_what_the_hypervisor_says_of_domains(any_host: Host) -> None:
    with any_host.xen.events() as channels, pytest.raises(errors.HypercallError, match="EEXIST.*xenstored"):
        channels.bind_virq(Virq.DOM_EXC)


@each_release
def test_a_virq_has_one_holder(boot: Boot, release: str) -> None:
    xen = boot(release, with_store=False).xen
    with xen.events() as channels, xen.events() as others:
        port = channels.bind_virq(Virq.DOM_EXC)
        with pytest.raises(errors.HypercallError, match="bind_virq failed: EEXIST.*xenstored") as caught:
            others.bind_virq(Virq.DOM_EXC)
        assert caught.value.errno == errno.EEXIST
        channels.unbind(port)
        others.bind_virq(Virq.DOM_EXC)


def test_what_cannot_be_bound(any_host: Host) -> None:
    with any_host.xen.events() as channels:
        with pytest.raises(errors.HypercallError, match="EINVAL.*no such virq"):
            channels.bind_virq(24)
        with pytest.raises(errors.DomainNotFound):
            channels.bind_interdomain(ABSENT_DOMID, 1)
        with pytest.raises(errors.HypercallError, match="EINVAL.*no such port waiting"):
            channels.bind_interdomain(1, 1)
        with pytest.raises(ValueError, match="domid"):
            channels.bind_unbound(1 << 16)
        assert channels.ports == set()


def test_ports_of_others_are_none_of_its_business(host: Host) -> None:
    with host.xen.events() as channels, host.xen.events() as others:
        far, near = connected(others)
        for use in (channels.unbind, channels.notify):
            with pytest.raises(ValueError, match=f"port {near} is not bound here"):
                use(near)
        others.notify(near)
        assert (channels.wait(0), others.wait(0)) == (None, far)


def test_an_event_of_a_port_that_is_closed_is_dropped(host: Host) -> None:
    with host.xen.events() as channels:
        far, near = connected(channels)
        channels.notify(near)
        channels.unbind(far)
        assert channels.wait(0) is None


def test_restricted_to_a_domain(host: Host) -> None:
    guest_port = host.xen.domains[1].channels.open()
    with host.xen.events() as channels:
        channels.restrict(1)
        port = channels.bind_interdomain(1, guest_port)
        uses = (
            lambda: channels.bind_interdomain(2, 1),
            lambda: channels.bind_unbound(2),
            lambda: channels.bind_virq(Virq.CON_RING),
            lambda: channels.restrict(2),
        )
        for use in uses:
            with pytest.raises(errors.PermissionDenied, match="restricted"):
                use()
        assert channels.ports == {port}
    with host.xen.events() as channels, pytest.raises(errors.HypercallError, match="EINVAL"):
        channels.restrict(0)


def test_a_read_only_handle_listens_and_does_not_ring(boot: Boot) -> None:
    host = boot("4.17", readonly=True)
    with host.xen.events() as channels:
        port = channels.bind_virq(Virq.CON_RING)
        for use in (
            lambda: channels.bind_unbound(1),
            lambda: channels.bind_interdomain(1, 1),
            lambda: channels.notify(port),
        ):
            with pytest.raises(errors.ReadOnlyError):
                use()


@pytest.mark.usefixtures("no_collection")
def test_closing_closes_the_ports(host: Host) -> None:
    before = descriptors()
    channels = host.xen.events()
    far, near = connected(channels)
    assert host.xen.domains[0].channels.status(far).status is ChannelStatus.INTERDOMAIN
    assert repr(channels) == "<EventChannels of sim:xen-4.17, 2 bound>"
    channels.close()
    channels.close()
    assert repr(channels) == "<EventChannels of sim:xen-4.17, closed>"
    assert [host.xen.domains[0].channels.status(port).status for port in (far, near)] == [
        ChannelStatus.CLOSED
    ] * 2
    assert descriptors() == before
    for use in (channels.fileno, lambda: channels.wait(0), lambda: channels.bind_unbound(0)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_in_a_child_they_are_the_parents(host: Host) -> None:
    with host.xen.events() as channels:
        far, near = connected(channels)
        channels.notify(near)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                channels.wait(0)
            except RuntimeError as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        os.close(writer)
        assert os.waitpid(child, 0)[1] == 0
        with open(reader, encoding="ascii") as said:
            assert "before a fork" in said.read()
        assert channels.wait(0) == far
