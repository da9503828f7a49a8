# SPDX-License-Identifier: MIT
"""Guests that move between two simulated hosts, and connections that break while they do."""

from __future__ import annotations

import io
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from hosts import Boot, Host, Swap

import pyxc
from pyxc import DecodeError, GuestUnable, MigrationInDoubt, ShutdownReason, sim
from pyxc.abi import domctl, domctl_hvm
from pyxc.abi.errno import XenErrno
from pyxc.guest.handshake import BANNER, FAILED, GRANT, READY, REPORT, RUNS

PIECE = 1 << 16
MEMORY_BYTES = (0x400 + 8) << 12
"""Of the guest that moves."""


class Move(NamedTuple):
    """A guest on one of two hosts, its script, and the place to which it shall go."""

    here: Host
    there: Host
    guest: pyxc.Domain
    script: sim.ScriptedGuest

    def runs_here(self) -> bool:
        mine = self.here.truth.domains.get(self.guest.domid)
        return mine is not None and not mine.stopped and mine.dirty is None

    def runs_there(self) -> bool:
        return any(not one.stopped for domid, one in self.there.truth.domains.items() if domid)


@pytest.fixture
def move(boot: Boot) -> Move:
    here, there = boot(), boot(with_guests=False)
    guest = here.xen.domains["db1"]
    guest.memory.decrease(range(0x400, 32_768, 0x200), order=9)
    script = here.truth.script(guest.domid)
    script.obey()
    return Move(here, there, guest, script)


class Outcome(NamedTuple):
    sent: BaseException | pyxc.guest.migrate.Migrated | None  # type: ignore[name-defined]
    received: BaseException | pyxc.Domain | None


def caught(act: Callable[[], object], found: list[object]) -> Callable[[], None]:
    def run() -> None:
        try:
            found.append(act())
        except BaseException as error:
            found.append(error)

    return run


class Noise:
    """Changes one byte of those that pass, and holds all up now and then."""

    def __init__(self, chance: random.Random, places: range) -> None:
        self._chance = chance
        self._left = chance.choice(places)
        self._bit = 1 << chance.randrange(8)

    def pass_on(self, data: bytes) -> bytes:
        time.sleep(self._chance.choice((0, 0, 0, 0.001)))
        place, self._left = self._left, self._left - len(data)
        if not 0 <= place < len(data):
            return data
        return data[:place] + bytes([data[place] ^ self._bit]) + data[place + 1 :]


def relay(source: socket.socket, sink: socket.socket, most: int | None, noise: Noise | None = None) -> None:
    """Pass so many bytes on, then cut the connection in both directions."""
    with suppress(OSError):
        while most is None or most > 0:
            data = source.recv(PIECE if most is None else min(PIECE, most))
            if not data:
                break
            sink.sendall(noise.pass_on(data) if noise else data)
            most = None if most is None else most - len(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def receive(move: Move, far: socket.socket) -> pyxc.Domain:
    """As a process that ends then."""
    try:
        return move.there.xen.receive(far)
    except BaseException:
        far.shutdown(socket.SHUT_RDWR)
        raise


def run(
    move: Move,
    *,
    forth: int | None = None,
    back: int | None = None,
    live: bool = False,
    noises: tuple[Noise | None, Noise | None] = (None, None),
    timeout: float = 20,
) -> Outcome:
    """Migrate over a network that carries only so many bytes forth, or back, and may change them."""
    near, near_end = socket.socketpair()
    far, far_end = socket.socketpair()
    sent: list[object] = []
    received: list[object] = []
    threads = [
        threading.Thread(target=caught(lambda: move.guest.migrate(near, live=live, timeout=timeout), sent)),
        threading.Thread(target=caught(lambda: receive(move, far), received)),
        threading.Thread(target=relay, args=(near_end, far_end, forth, noises[0])),
        threading.Thread(target=relay, args=(far_end, near_end, back, noises[1])),
    ]
    with near, far, near_end, far_end:
        for thread in threads:
            thread.start()
        for end, thread in zip((near, far), threads):
            thread.join(60)
            assert not thread.is_alive()
            end.shutdown(socket.SHUT_RDWR)
        for thread in threads[2:]:
            thread.join(60)
    return Outcome(sent[0], received[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("live", [False, True])
def test_a_guest_moves(move: Move, live: bool) -> None:
    move.script.write_memory(0x42, b"what it has in memory")
    outcome = run(move, live=live)
    assert not isinstance(outcome.sent, BaseException), outcome
    assert isinstance(outcome.received, pyxc.Domain), outcome
    assert outcome.sent.pages == 0x400 + 8
    assert move.runs_there()
    assert not move.runs_here()
    there = move.there.xen.domains["db1"]
    assert there == outcome.received
    assert there.memory.read(0x42, size=21) == b"what it has in memory"
    assert move.guest.info().shutdown_reason is ShutdownReason.SUSPEND
    assert move.here.xen.names.domain_name(move.guest.domid) == "db1--migratedaway"
    assert move.here.xen.link.maps == move.there.xen.link.maps == []


def test_it_does_not_wait_for_the_end_of_log_dirty_mode(move: Move) -> None:
    """That takes long for a large guest, and the domain here is destroyed anyway."""
    modes: list[bool] = []

    @move.there.truth.handles(domctl.UNPAUSEDOMAIN)
    def noted(call: sim.Call) -> int:
        modes.append(move.here.truth.domains[move.guest.domid].dirty is not None)
        return int(sim.REGISTER[domctl.UNPAUSEDOMAIN.full_name].handler(call) or 0)

    outcome = run(move, live=True)
    assert isinstance(outcome.received, pyxc.Domain)
    assert modes == [True]
    assert move.here.truth.domains[move.guest.domid].dirty is None


def test_within_one_host(move: Move) -> None:
    """Both domains have the same UUID; what belongs to that remains when the first one is destroyed."""
    here = move.here.truth
    nodes = set(move.here.xen.store.list("/vm") or [])
    for _ in range(2):
        other = Host(pyxc.connect(here.connect()), here, move.here.link)
        outcome = run(move._replace(there=other))
        assert isinstance(outcome.received, pyxc.Domain), outcome
        move.guest.destroy()
        move = move._replace(guest=move.here.xen.domains["db1"])
        here.script(move.guest.domid).obey()
    assert move.here.xen.store.read(f"/vm/{move.guest.uuid}/name") == b"db1"
    move.guest.destroy()
    assert set(move.here.xen.store.list("/vm") or []) <= nodes


def size_forth(move: Move) -> int:
    """How many bytes the source says, the last of them GRANT."""
    near, far = socket.socketpair()
    counted: list[int] = []

    def count() -> None:
        far.sendall(BANNER)
        total = 0
        while data := far.recv(PIECE):
            total += len(data)
        counted.append(total)

    thread = threading.Thread(target=count)
    thread.start()
    with far:
        with near, pytest.raises((OSError, DecodeError)):
            move.guest.migrate(near, live=False, timeout=0.5)
        thread.join()
    return counted[0] + len(GRANT)


def test_a_network_that_breaks_while_the_guest_is_sent(move: Move) -> None:
    whole = size_forth(move)
    assert move.runs_here()
    stream = whole - len(GRANT)
    for forth in (0, 1, 50, 300, 3000, stream // 2, stream - 2000, stream - 1, stream):
        outcome = run(move, forth=forth)
        assert isinstance(outcome.sent, Exception)
        assert not isinstance(outcome.sent, MigrationInDoubt) or forth >= stream, (forth, outcome)
        assert isinstance(outcome.received, Exception)
        assert not move.runs_there(), forth
        assert list(move.there.truth.domains) == [0], "nothing stays there"
        if isinstance(outcome.sent, MigrationInDoubt):
            assert not move.runs_here()
            move.guest.set_name("db1")
            move.guest.resume(fast=True)
        assert move.runs_here(), (forth, outcome)
        assert move.here.xen.names.domain_name(move.guest.domid) == "db1"


@pytest.mark.parametrize("back", [0, 1, len(BANNER), len(BANNER) + 5])
def test_a_target_that_falls_silent_before_it_is_ready(move: Move, back: int) -> None:
    outcome = run(move, back=back)
    assert isinstance(outcome.sent, Exception)
    assert move.runs_here()
    assert not move.runs_there()


@pytest.mark.parametrize("seed", range(24))
def test_a_network_that_changes_what_it_carries(move: Move, seed: int) -> None:
    """At most one of the two runs the guest, and one does unless the source is in doubt."""
    chance = random.Random(seed)
    noises = (
        (Noise(chance, range(2000)), None),
        (Noise(chance, range(MEMORY_BYTES, MEMORY_BYTES + 11_650)), None),  # registers, ..., GRANT
        (None, Noise(chance, range(len(BANNER + READY + REPORT + RUNS)))),
    )[seed % 3]
    outcome = run(move, live=chance.random() < 0.5, noises=noises, timeout=0.5)
    assert not (move.runs_here() and move.runs_there())
    if isinstance(outcome.sent, MigrationInDoubt):
        assert move.guest.info().shutdown_reason is ShutdownReason.SUSPEND
    elif isinstance(outcome.sent, BaseException):
        assert isinstance(outcome.sent, pyxc.Error | OSError), outcome
        assert move.runs_here()
    else:
        assert move.runs_there()
    if not move.runs_there():
        assert isinstance(outcome.received, pyxc.Error | OSError), outcome
        assert list(move.there.truth.domains) == [0]


@pytest.mark.parametrize("more", [0, 1, len(REPORT)])
def test_a_report_that_is_lost(move: Move, more: int) -> None:
    """The guest runs there; here it stays, suspended."""
    outcome = run(move, back=len(BANNER) + len(READY) + more)
    assert isinstance(outcome.sent, MigrationInDoubt) or move.runs_here()
    assert not (move.runs_here() and move.runs_there())
    if isinstance(outcome.sent, MigrationInDoubt):
        assert "check there" in str(outcome.sent)
        assert move.guest.info().shutdown_reason is ShutdownReason.SUSPEND


def test_a_host_that_cannot_let_it_run(move: Move) -> None:
    move.there.link.fail(domctl.UNPAUSEDOMAIN, XenErrno.EPERM)
    outcome = run(move)
    assert isinstance(outcome.sent, GuestUnable)
    assert "could not let" in str(outcome.sent)
    assert move.runs_here()
    assert list(move.there.truth.domains) == [0]
    assert move.here.xen.names.domain_name(move.guest.domid) == "db1"


@pytest.mark.parametrize("done", [False, True])
def test_an_interrupt_while_it_is_let_run_there(move: Move, done: bool) -> None:
    """The hypercall has taken effect, or not: the guest runs there or here."""

    @move.there.truth.handles(domctl.UNPAUSEDOMAIN)
    def interrupted(call: sim.Call) -> int:
        if done:
            sim.REGISTER[domctl.UNPAUSEDOMAIN.full_name].handler(call)
        raise KeyboardInterrupt

    outcome = run(move)
    assert isinstance(outcome.received, KeyboardInterrupt)
    assert isinstance(outcome.sent, GuestUnable) is not done
    assert (move.runs_there(), move.runs_here()) == (done, not done)


def test_a_name_that_it_cannot_have_meanwhile(move: Move) -> None:
    """Taken by what an earlier migration left, or too long: found before anything is sent."""
    move.here.xen.domains["web1"].set_name("db1--migratedaway")
    near, far = socket.socketpair()
    with near, far:
        for name, message in (("db1", "already has the name db1--mig"), ("d" * 250, "of 1 to 255 bytes")):
            move.guest.set_name(name)
            with pytest.raises(ValueError, match=message):
                move.guest.migrate(near, live=False)
    assert move.runs_here()


def test_its_name_is_taken_when_it_comes_back(move: Move) -> None:
    """The guest continues, and the error says what it is called now."""

    @move.there.truth.handles(domctl.UNPAUSEDOMAIN)
    def taken(call: sim.Call) -> int:
        with pyxc.connect(move.here.truth.connect()) as another:
            another.domains["web1"].set_name("db1")
        return -int(XenErrno.EPERM)

    outcome = run(move)
    assert isinstance(outcome.sent, GuestUnable)
    (note,) = outcome.sent.__notes__
    assert note.startswith(f"domain {move.guest.domid} is left with the name db1--migratedaway")
    assert move.runs_here()


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("at", [1, 2, "the end"])
def test_another_domain_that_gets_the_id_does_not_move(move: Move, live: bool, at: Any) -> None:
    swap = Swap(move.here.truth, move.guest.domid, 1 if at == "the end" else at)
    if at == "the end":
        move.here.link.before(domctl_hvm.GETHVMCONTEXT, swap)
    else:
        move.here.link.guest_acts = swap
    outcome = run(move, live=live)
    assert isinstance(outcome.sent, pyxc.DomainGone | pyxc.DomainNotFound), outcome
    assert isinstance(outcome.received, Exception)
    assert list(move.there.truth.domains) == [0]
    assert swap.left_alone()


def test_a_host_without_enough_memory(move: Move) -> None:
    move.there.link.fail(domctl.MAX_MEM, XenErrno.ENOMEM)
    outcome = run(move)
    assert isinstance(outcome.sent, OSError)
    assert move.runs_here()
    assert list(move.there.truth.domains) == [0]


def test_a_target_that_takes_nothing(move: Move) -> None:
    near, far = socket.socketpair()
    with near, far:
        far.sendall(BANNER)
        with pytest.raises(TimeoutError, match="silent for 0.2 s"):
            move.guest.migrate(near, live=False, timeout=0.2)
        assert near.getblocking()
    assert move.runs_here()


@pytest.mark.parametrize("words", [b"", b"Password:", BANNER + b"no such command", BANNER[:-1] + b"!"])
def test_another_program_answers(move: Move, words: bytes) -> None:
    near, far = socket.socketpair()
    with near, far:
        far.sendall(words)
        reader = threading.Thread(target=lambda: [None for _ in iter(lambda: far.recv(PIECE), b"")])
        if words.startswith(BANNER):
            reader.start()
        else:
            far.shutdown(socket.SHUT_WR)
        with pytest.raises((DecodeError, ConnectionError)):
            move.guest.migrate(near, live=False, timeout=1)
        near.shutdown(socket.SHUT_RDWR)
        if words.startswith(BANNER):
            reader.join()
    assert move.runs_here()


def test_it_has_its_name_before_it_may_run(move: Move) -> None:
    """From another host: it is down while it is renamed."""
    file = io.BytesIO()
    move.guest.save(file)
    near, far = socket.socketpair()
    received: list[object] = []
    target = threading.Thread(target=caught(lambda: receive(move, far), received))
    with near, far, pyxc.connect(move.there.truth.connect()) as looking:
        near.settimeout(60)
        target.start()
        near.sendall(file.getvalue())
        heard = b""
        while heard != BANNER + READY:
            heard += near.recv(len(BANNER + READY) - len(heard))
        deadline = time.monotonic() + 60
        while "db1" not in looking.domains:
            assert time.monotonic() < deadline
        assert looking.domains["db1"].info().paused
        near.sendall(GRANT)
        target.join(60)
    assert isinstance(received[0], pyxc.Domain), received
    assert not received[0].info().paused


def test_as_xl_says_it() -> None:
    """These words are a protocol: xl is the other side."""
    assert BANNER == b"xl migration receiver ready, send binary domain data.\n"
    assert READY == b"domain received, ready to unpause\0"
    assert GRANT == b"domain is yours, you are cleared to unpause\0"
    assert REPORT + RUNS == b"my copy unpause results are as follows\0\0"
    assert REPORT + FAILED == b"my copy unpause results are as follows\0\1"
