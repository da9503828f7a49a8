# SPDX-License-Identifier: MIT
"""Consoles: the ring and the terminal of xenconsoled, guests that speak, that are silent, and that lie."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
import threading
from contextlib import suppress

import pytest
from hosts import Boot, Host

from pyxc import ShutdownReason, errors
from pyxc.abi import console as ring
from pyxc.abi.event_channel import Status
from pyxc.domain.console import Console, Place
from pyxc.sim.event_device import SimEvtchn
from pyxc.sim.guests.scripted import ScriptedGuest

INDICES = ring.IN_BYTES + ring.OUT_BYTES


def set_indices(guest: ScriptedGuest, *indices: int) -> None:
    """in_cons, in_prod, out_cons, out_prod."""
    memory = guest._xen.machine.memory
    memory.write(guest._console_frame(), INDICES, struct.pack("<IIII", *indices))


@pytest.fixture(params=[1, 2], ids=["pv", "pvh"])
def spoken(request: pytest.FixtureRequest, host: Host) -> tuple[Host, ScriptedGuest]:
    return host, host.truth.script(request.param)


def test_what_a_guest_prints_is_read(spoken: tuple[Host, ScriptedGuest]) -> None:
    host, guest = spoken
    with host.xen.domains[guest.domid].console as console:
        console.read(timeout=0)
        guest.print("hello\n")
        assert console.read() == b"hello\n"
        assert console.read(timeout=0) == b""


def test_nothing_is_lost_from_the_first_byte(host: Host) -> None:
    host.truth.script(1)
    with host.xen.domains["web1"].console as console:
        assert console.read() == b"Linux version 6.1 (simulated)\r\n"


def test_what_is_typed_is_heard(spoken: tuple[Host, ScriptedGuest]) -> None:
    host, guest = spoken
    guest.echo()
    with host.xen.domains[guest.domid].console as console:
        console.read(timeout=0)
        console.write("ls\n")
        assert console.read() == b"ls\n"


@pytest.mark.parametrize("start", [0, 2040, 2**32 - 5])
def test_a_ring_goes_around(host: Host, start: int) -> None:
    guest = host.truth.script(1)
    set_indices(guest, start, start, start, start)
    guest.echo()
    with host.xen.domains["web1"].console as console:
        for number in range(40):
            text = b"%03d" % number * 33
            console.write(text)
            assert console.read() == text


def test_a_full_ring_is_all_read(host: Host) -> None:
    guest = host.truth.script(1)
    with host.xen.domains["web1"].console as console:
        console.read(timeout=0)
        assert guest.print(b"x" * 3000) == ring.OUT_BYTES
        assert guest.print(b"y") == 0
        assert console.read() == b"x" * ring.OUT_BYTES
        assert guest.print(b"y") == 1


def test_waiting_for_a_text(host: Host) -> None:
    guest = host.truth.script(1)
    guest.typed(lambda data: guest.print(b"Password for %s: " % data.strip()))
    with host.xen.domains["web1"].console as console:
        guest.print("web1 login: more")
        assert console.expect("login: ").group() == b"login: "
        console.write("root\n")
        assert console.expect(rb"Password for (\w+): ", timeout=10)[1] == b"root"
        assert console.read(timeout=0) == b""


def test_what_does_not_come_is_reported_with_what_came(host: Host) -> None:
    guest = host.truth.script(1)
    with host.xen.domains["web1"].console as console:
        console.read(timeout=0)
        guest.print("panic")
        with pytest.raises(errors.GuestSilent, match="login.*within 0.05 s; its last output was b'panic'"):
            console.expect("login", timeout=0.05)
        assert console.read(timeout=0) == b"panic"


def test_a_guest_that_prints_for_ever_does_not_hold_up(host: Host) -> None:
    guest = host.truth.script(1)
    with host.xen.domains["web1"].console as console:
        console.copy = lambda data: guest.print(b"spam" * 500)
        with pytest.raises(errors.GuestSilent):
            console.expect("login", timeout=0.1)


def test_a_guest_that_rings_for_ever_does_not_hold_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time that its event is cleared there is a new one."""
    guest, rung = host.truth.script(1), 0
    with host.xen.domains["web1"].console as console:
        clear = SimEvtchn.unmask

        def insist(device: SimEvtchn, port: int) -> None:
            nonlocal rung
            clear(device, port)
            rung += 1
            assert rung < 10
            guest.print("!")

        monkeypatch.setattr(SimEvtchn, "unmask", insist)
        assert console.read(timeout=0).startswith(b"Linux")
        assert console.read(timeout=0) == b"!"


def test_the_last_words_of_a_dead_guest(spoken: tuple[Host, ScriptedGuest]) -> None:
    host, guest = spoken
    console = host.xen.domains[guest.domid].console
    guest.print("Kernel panic")
    guest.stop(ShutdownReason.CRASH)
    with console:
        assert b"".join(console).endswith(b"Kernel panic")
        with pytest.raises(errors.GuestSilent, match="before it ended"):
            console.expect("login", timeout=10)
    assert console.last().endswith(b"Kernel panic")


def test_what_was_read_is_still_in_the_ring(boot: Boot) -> None:
    host = boot(readonly=True)
    assert host.xen.domains["web1"].console.last() == b"Linux version 6.1 (simulated)\r\n"
    guest = host.truth.script(1)
    set_indices(guest, 0, 0, 5000, 5000)
    for number in range(3000):
        guest.print(b"%d" % (number % 10))
        set_indices(guest, 0, 0, 5001 + number, 5001 + number)
    assert host.xen.domains["web1"].console.last() == b"".join(b"%d" % (n % 10) for n in range(952, 3000))
    with pytest.raises(errors.ReadOnlyError):
        host.xen.domains["web1"].console.read()


@pytest.mark.parametrize("indices", [(0, 0, 0, 2049), (0, 0, 5, 4), (0, 0, 2**31, 0), (0, 0, 0, 2**32 - 1)])
def test_more_than_a_ring_holds(host: Host, indices: tuple[int, ...]) -> None:
    guest = host.truth.script(1)
    with host.xen.domains["web1"].console as console:
        set_indices(guest, *indices)
        with pytest.raises(errors.DecodeError, match="in a ring of 2048"):
            console.read(timeout=0)
        guest.print("better now")
        assert console.read(timeout=0) == b"better now"


@pytest.mark.parametrize("indices", [(0, 1025, 0, 0), (5, 4, 0, 0), (2**31, 0, 0, 0)])
def test_more_than_a_ring_takes(host: Host, indices: tuple[int, ...]) -> None:
    guest = host.truth.script(1)
    with host.xen.domains["web1"].console as console:
        set_indices(guest, *indices)
        with pytest.raises(errors.DecodeError, match="in a ring of 1024"):
            console.write("x")


def test_a_guest_that_never_reads(host: Host) -> None:
    host.truth.script(1)
    with host.xen.domains["web1"].console as console:
        with pytest.raises(errors.GuestSilent, match="left 476 bytes unread"):
            console.write(b"x" * 1500, timeout=0.05)
        assert console.write_some(b"more") == 0


def test_a_guest_may_look_whether_anybody_is_there(host: Host) -> None:
    guest = host.truth.script(1)
    memory, frame = host.truth.machine.memory, guest._console_frame()
    memory.write(frame, ring.CONNECTION_OFFSET, bytes([ring.DISCONNECTED]))
    with host.xen.domains["web1"].console:
        assert memory.read(frame, ring.CONNECTION_OFFSET, 1) == bytes([ring.CONNECTED])
    assert memory.read(frame, ring.CONNECTION_OFFSET, 1) == bytes([ring.DISCONNECTED])


def test_closing_leaves_the_port_for_the_next(host: Host) -> None:
    host.truth.script(1)
    for _ in range(3):
        with host.xen.domains["web1"].console as console:
            assert host.truth.domains[1].ports[2].status is Status.INTERDOMAIN
            console.read(timeout=0)
        assert host.truth.domains[1].ports[2].status is Status.UNBOUND


def test_a_console_that_another_process_serves(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyxc.domain.console._NAMED_S", 0.1)
    host.truth.script(1)
    with host.xen.domains["web1"].console:
        other = Console(host.xen.domains["web1"])
        with pytest.raises(OSError, match="another process serves") as raised:
            other.open()
        assert raised.value.errno == errno.EBUSY
        with Console(host.xen.domains["web1"], way="ring") as beside:
            assert beside.read(timeout=0).startswith(b"Linux")


def test_a_domain_without_a_console(host: Host) -> None:
    made = host.xen.domains.create()
    with pytest.raises(errors.GuestUnable, match="no known console"):
        made.console.open()
    host.xen.store.write("/local/domain/1/console/ring-ref", "many")
    with pytest.raises(errors.GuestUnable, match="no known console"):
        host.xen.domains["web1"].console.last()


def test_a_frame_of_somebody_else_is_not_mapped(host: Host) -> None:
    host.xen.store.write("/local/domain/1/console/ring-ref", "1")
    host.truth.script(3)
    with pytest.raises(OSError, match="cannot be mapped"):
        Console(host.xen.domains["web1"], way="ring").open()


def test_a_known_place_needs_no_xenstore(boot: Boot) -> None:
    host = boot(with_store=False)
    rings = host.truth.domains[1].rings
    assert rings is not None
    with Console(host.xen.domains[1], Place(rings.console, 2), way="ring") as console:
        assert console.read(timeout=0).startswith(b"Linux")


def test_all_that_is_read_is_copied(host: Host) -> None:
    guest = host.truth.script(1)
    copied = bytearray()
    with host.xen.domains["web1"].console as console:
        console.copy = copied.extend
        console.expect("simulated")
        guest.print("more")
        console.expect("more")
    assert copied == b"Linux version 6.1 (simulated)\r\nmore"


def test_in_an_event_loop(host: Host) -> None:
    guest = host.truth.script(1)

    async def listen() -> bytes:
        heard = b""
        with host.xen.domains["web1"].console as console:
            async for data in console:
                heard += data
                if b"bye" not in heard:
                    guest.print("bye")
                    guest.stop()
        return heard

    assert asyncio.run(asyncio.wait_for(listen(), 20)).endswith(b"bye")


def test_the_terminal_of_xenconsoled(host: Host) -> None:
    ours, theirs = os.openpty()
    host.xen.store.write("/local/domain/1/console/tty", os.ttyname(theirs))
    with host.xen.domains["web1"].console as console:
        os.write(ours, b"login: ")
        assert console.expect("login: ", timeout=10)
        console.write("root\n")
        assert os.read(ours, 100) == b"root\n"
        os.close(theirs)
        os.close(ours)
        assert console.read(timeout=0.1) == b""


def test_a_terminal_that_xenconsoled_has_not_named_yet(host: Host) -> None:
    """It serves a new guest before it writes to xenstore."""
    host.truth.script(1)
    ours, theirs = os.openpty()

    def name() -> None:
        host.xen.store.write("/local/domain/1/console/tty", os.ttyname(theirs))

    with host.xen.domains["web1"].console:
        late = threading.Timer(0.2, name)
        late.start()
        with Console(host.xen.domains["web1"]) as console:
            os.write(ours, b"login: ")
            assert console.expect("login: ", timeout=10)
        late.join()
    os.close(theirs)
    os.close(ours)


@pytest.mark.parametrize("path", ["/dev/null", "/etc/passwd", "/dev/pts/../../etc/passwd", "pts/1"])
def test_a_terminal_that_is_none(host: Host, path: str) -> None:
    host.xen.store.write("/local/domain/1/console/tty", path)
    with pytest.raises(errors.StoreError, match="not a pseudo-terminal"):
        host.xen.domains["web1"].console.open()


def test_a_terminal_of_a_daemon_that_has_ended_is_not_opened(host: Host) -> None:
    """Its number may be another program's terminal by now."""
    host.truth.script(1)
    _, theirs = os.openpty()
    host.xen.store.write("/local/domain/1/console/tty", os.ttyname(theirs))
    with host.xen.domains["web1"].console as console:
        assert console.read(timeout=0).startswith(b"Linux")
    with pytest.raises(errors.GuestUnable, match="does not serve"):
        Console(host.xen.domains["web1"], way="pty").open()
    os.close(theirs)


@pytest.mark.parametrize("position", range(8))
def test_no_failure_leaves_anything_open(host: Host, position: int) -> None:
    """The fixture looks whether a mapping or a port stayed open."""
    host.truth.script(1)
    host.link.fail_call(position, errno.ENOMEM)
    with suppress(errors.Error):
        Console(host.xen.domains[1], way="ring").open().close()
