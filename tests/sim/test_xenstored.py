# SPDX-License-Identifier: MIT
"""The simulated xenstored as bytes: its answers to good and bad requests of dom0 and of guests."""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

import pyxc
from pyxc import sim
from pyxc.sim.xenstored import HostDomains, Xenstored
from pyxc.sim.xenstored.channel import SimChannel
from pyxc.sim.xenstored.listener import Listener
from pyxc.store import StoreClient

HEADER = struct.Struct("=IIII")
(
    CONTROL, DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH, TRANSACTION_START, TRANSACTION_END, INTRODUCE,
    RELEASE, GET_DOMAIN_PATH, WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR, IS_DOMAIN_INTRODUCED, RESUME,
    SET_TARGET, RESTRICT, RESET_WATCHES, DIRECTORY_PART,
) = range(23)  # fmt: skip
OK = b"OK\0"
HYPERVISOR = sim.Hypervisor(sim.named("sim:"), with_guests=False)


class Client:
    """Speaks with a xenstored in bytes, as dom0 or as a guest."""

    def __init__(self, channel: SimChannel) -> None:
        self.channel = channel
        self.data = b""
        self.events: list[bytes] = []

    def ask(self, kind: int, payload: bytes, transaction: int = 0) -> bytes:
        """The payload of the answer, or the error's name as "!NAME"."""
        self.channel.send(HEADER.pack(kind, 77, transaction, len(payload)) + payload)
        self.receive()
        answered, request, tx, size = HEADER.unpack_from(self.data)
        answer, self.data = self.data[16 : 16 + size], self.data[16 + size :]
        self.take_events()
        assert (request, tx) == (77, transaction)
        assert answered in (kind, ERROR)
        return b"!" + answer.rstrip(b"\0") if answered == ERROR else answer

    def receive(self) -> None:
        try:
            self.data += self.channel.receive()
        except BlockingIOError:
            return
        self.take_events()

    def take_events(self) -> None:
        while self.data[:4] == struct.pack("=I", WATCH_EVENT):
            _, request, tx, size = HEADER.unpack_from(self.data)
            assert (request, tx) == (0, 0)
            self.events.append(self.data[16 : 16 + size])
            self.data = self.data[16 + size :]

    def news(self) -> list[bytes]:
        """Events since the last time."""
        self.receive()
        found, self.events = self.events, []
        return found

    def begin(self) -> int:
        return int(self.ask(TRANSACTION_START, b"\0").rstrip(b"\0"))


@pytest.fixture
def xen() -> sim.Hypervisor:
    return sim.Hypervisor(sim.named("sim:"))


@pytest.fixture
def dom0(xen: sim.Hypervisor) -> Iterator[Client]:
    channel = xen.store.connect()
    yield Client(channel)
    channel.close()


@pytest.fixture
def web1(xen: sim.Hypervisor) -> Iterator[Client]:
    """The guest with the id 1."""
    channel = xen.store.connect(1)
    yield Client(channel)
    channel.close()


@pytest.mark.parametrize(
    ("kind", "payload", "answer"),
    [
        (READ, b"/tool\0", b""),
        (READ, b"/tool", b"!EINVAL"),
        (READ, b"/tool\0\0", b"!EINVAL"),
        (READ, b"", b"!EINVAL"),
        (READ, b"/tool/\0", b"!EINVAL"),
        (READ, b"//tool\0", b"!EINVAL"),
        (READ, b"/to ol\0", b"!EINVAL"),
        (READ, b"/t\xe4\0", b"!EINVAL"),
        (READ, b"@releaseDomain\0", b"!EINVAL"),
        (READ, b"/nothing\0", b"!ENOENT"),
        (READ, b"name\0", b"Domain-0"),
        (READ, b"/" + b"a" * 2047 + b"\0", b"!ENOENT"),
        (READ, b"/" + b"a" * 2048 + b"\0", b"!EINVAL"),
        (READ, b"/local/domain/7/" + b"a" * 2048 + b"\0", b"!ENOENT"),
        (READ, b"/local/domain/7/" + b"a" * 2049 + b"\0", b"!EINVAL"),
        (DIRECTORY, b"/tool\0", b"xenstored\0"),
        (DIRECTORY, b"/tool/xenstored\0", b""),
        (DIRECTORY, b"/nothing\0", b"!ENOENT"),
        (DIRECTORY_PART, b"/tool\0", b"!EINVAL"),
        (DIRECTORY_PART, b"/nothing\0" + b"0\0", b"!ENOENT"),
        (WRITE, b"/a/b\0x\0y", OK),
        (WRITE, b"/a/b\0", OK),
        (WRITE, b"/a/b", b"!EINVAL"),
        (WRITE, b"/a//b\0", b"!EINVAL"),
        (MKDIR, b"/a/b\0", OK),
        (MKDIR, b"/a/b\0x", b"!EINVAL"),
        (RM, b"/nothing\0", OK),
        (RM, b"/nothing/below\0", b"!ENOENT"),
        (RM, b"/\0", b"!EINVAL"),
        (GET_PERMS, b"/tool\0", b"n0\0"),
        (GET_PERMS, b"/nothing\0", b"!ENOENT"),
        (SET_PERMS, b"/tool\0", b"!EINVAL"),
        (SET_PERMS, b"/tool\0r1\0b2\0", OK),
        (SET_PERMS, b"/tool\0x1\0", b"!EINVAL"),
        (SET_PERMS, b"/tool\0n99\0", b"!ENOENT"),
        (SET_PERMS, b"/tool\0n0\0r99\0", OK),
        (SET_PERMS, b"/nothing\0n0\0", b"!ENOENT"),
        (SET_PERMS, b"@releaseDomain\0n0\0r1\0", OK),
        (SET_PERMS, b"@nonsense\0n0\0", b"!EINVAL"),
        (WATCH, b"/a\0token\0", OK),
        (WATCH, b"@anything\0token\0", OK),
        (WATCH, b"/a\0", b"!EINVAL"),
        (WATCH, b"/a\0token\0more\0", b"!EINVAL"),
        (WATCH, b"/a/\0token\0", b"!EINVAL"),
        (WATCH, b"@" + b"a" * 2048 + b"\0token\0", b"!EINVAL"),
        (UNWATCH, b"/a\0token\0", b"!ENOENT"),
        (UNWATCH, b"/a\0", b"!EINVAL"),
        (RESET_WATCHES, b"\0", OK),
        (TRANSACTION_END, b"T\0", b"!ENOENT"),
        (TRANSACTION_END, b"X\0", b"!EINVAL"),
        (INTRODUCE, b"1\0" + b"1\0", b"!EINVAL"),
        (INTRODUCE, b"1\0" + b"1\0" + b"0\0", b"!EINVAL"),
        (INTRODUCE, b"99\0" + b"1\0" + b"1\0", b"!EINVAL"),
        (RELEASE, b"0\0", b"!EINVAL"),
        (RELEASE, b"99\0", b"!ENOENT"),
        (RELEASE, b"words\0", b"!EINVAL"),
        (RESUME, b"1\0", OK),
        (RESUME, b"99\0", b"!ENOENT"),
        (SET_TARGET, b"1\0" + b"2\0", OK),
        (SET_TARGET, b"1\0" + b"99\0", b"!ENOENT"),
        (SET_TARGET, b"1\0", b"!EINVAL"),
        (GET_DOMAIN_PATH, b"12\0", b"/local/domain/12\0"),
        (GET_DOMAIN_PATH, b"12", b"!EINVAL"),
        (IS_DOMAIN_INTRODUCED, b"1\0", b"T\0"),
        (IS_DOMAIN_INTRODUCED, b"99\0", b"F\0"),
        (CONTROL, b"check\0", OK),
        (CONTROL, b"nonsense\0", b"!EINVAL"),
        (CONTROL, b"", b"!EINVAL"),
        (RESTRICT, b"1\0", b"!ENOSYS"),
        (WATCH_EVENT, b"/a\0token\0", b"!ENOSYS"),
        (ERROR, b"ENOENT\0", b"!ENOSYS"),
        (99, b"", b"!ENOSYS"),
    ],
)  # fmt: skip
def test_answers(dom0: Client, kind: int, payload: bytes, answer: bytes) -> None:
    assert dom0.ask(kind, payload) == answer


def test_requests_come_in_any_pieces(dom0: Client) -> None:
    request = HEADER.pack(READ, 77, 0, 5) + b"name\0"
    for byte in request[:-1]:
        dom0.channel.send(bytes([byte]))
    with pytest.raises(BlockingIOError):
        dom0.channel.receive()
    dom0.channel.send(request[-1:] + request)
    assert dom0.channel.receive() == 2 * (HEADER.pack(READ, 77, 0, 8) + b"Domain-0")


def test_who_sends_too_much_is_disconnected(xen: sim.Hypervisor, dom0: Client) -> None:
    dom0.channel.send(HEADER.pack(READ, 77, 0, 4097))
    assert dom0.channel.receive() == b""
    with pytest.raises(BrokenPipeError):
        dom0.channel.send(b"more")
    assert xen.store.sessions == []


@given(some.lists(some.binary(max_size=40), max_size=10))
def test_no_bytes_of_a_client_harm_it(pieces: list[bytes]) -> None:
    xenstored = Xenstored(HostDomains(HYPERVISOR), HYPERVISOR.lock)
    channel = xenstored.connect()
    for piece in pieces:
        try:
            channel.send(piece)
        except BrokenPipeError:
            break
    channel.close()
    with StoreClient(xenstored.connect) as store:
        assert store.list("/tool") == ["xenstored"]


@given(some.integers(0, 25), some.text("/ab0T\0@n", max_size=12), some.integers(0, 2))
def test_no_request_harms_it(kind: int, payload: str, transaction: int) -> None:
    xenstored = Xenstored(HostDomains(HYPERVISOR), HYPERVISOR.lock)
    client = Client(xenstored.connect())
    client.begin()
    client.ask(kind, payload.encode(), transaction)
    assert client.ask(GET_DOMAIN_PATH, b"0\0") == b"/local/domain/0\0"


def test_children_in_parts(dom0: Client) -> None:
    names = b"".join(b"a-name-of-some-length-%d\0" % number for number in range(400))
    for name in names.split(b"\0")[:-1]:
        dom0.ask(MKDIR, b"/a/" + name + b"\0")
    assert dom0.ask(DIRECTORY, b"/a\0") == b"!E2BIG"
    found, generations = b"", set()
    while not found.endswith(b"\0\0"):
        answer = dom0.ask(DIRECTORY_PART, b"/a\0%d\0" % len(found))
        assert len(answer) <= 4096
        generation, _, piece = answer.partition(b"\0")
        generations.add(generation)
        found += piece
    assert found == names + b"\0"
    assert len(generations) == 1
    assert dom0.ask(DIRECTORY_PART, b"/a\0" + b"99999\0").endswith(b"\0\0")
    dom0.ask(MKDIR, b"/a/more\0")
    assert dom0.ask(DIRECTORY_PART, b"/a\0" + b"0\0").partition(b"\0")[0] not in generations


def test_watches_fire_once_when_set_after_the_answer(dom0: Client) -> None:
    payload = b"/a\0token\0"
    dom0.channel.send(HEADER.pack(WATCH, 77, 0, len(payload)) + payload)
    assert dom0.channel.receive() == (
        HEADER.pack(WATCH, 77, 0, 3) + OK + HEADER.pack(WATCH_EVENT, 0, 0, len(payload)) + payload
    )
    assert dom0.ask(WATCH, payload) == b"!EEXIST"
    assert dom0.ask(WATCH, b"/a\0other\0") == OK
    assert dom0.ask(UNWATCH, payload) == OK
    assert dom0.news() == [b"/a\0other\0"]


def test_what_fires_a_watch(dom0: Client) -> None:
    dom0.ask(WRITE, b"/a/b/c\0x")
    for path in (b"/", b"/a", b"/a/b/c"):
        dom0.ask(WATCH, path + b"\0" + path + b"\0")
    dom0.news()

    def after(kind: int, payload: bytes) -> list[bytes]:
        dom0.ask(kind, payload)
        return dom0.news()

    assert after(WRITE, b"/a/d\0x") == [b"/a/d\0/\0", b"/a/d\0/a\0"]
    assert after(MKDIR, b"/a/e/f\0") == [b"/a/e/f\0/\0", b"/a/e/f\0/a\0"]
    assert after(MKDIR, b"/a/e/f\0") == []
    assert after(SET_PERMS, b"/a/b\0n0\0") == [b"/a/b\0/\0", b"/a/b\0/a\0"]
    assert after(RM, b"/a/b\0") == [b"/a/b/c\0/a/b/c\0", b"/a/b\0/\0", b"/a/b\0/a\0"]
    assert after(RM, b"/a/b\0") == []


def test_watches_of_relative_paths_tell_relative_paths(dom0: Client) -> None:
    dom0.ask(WATCH, b"data\0token\0")
    dom0.ask(WRITE, b"/local/domain/0/data/x\0x")
    assert dom0.news() == [b"data\0token\0", b"data/x\0token\0"]


def test_transactions_that_conflict(dom0: Client) -> None:
    dom0.ask(WRITE, b"/a\0old")
    first, second = dom0.begin(), dom0.begin()
    assert dom0.ask(READ, b"/a\0", first) == b"old"
    assert dom0.ask(WRITE, b"/b\0x", second) == OK
    assert dom0.ask(WRITE, b"/a\0new") == OK
    assert dom0.ask(READ, b"/a\0", first) == b"old"
    assert dom0.ask(TRANSACTION_START, b"\0", first) == b"!EBUSY"
    assert dom0.ask(TRANSACTION_END, b"T\0", first) == b"!EAGAIN"
    assert dom0.ask(TRANSACTION_END, b"T\0", first) == b"!ENOENT"
    assert dom0.ask(TRANSACTION_END, b"T\0", second) == OK
    assert dom0.ask(READ, b"/b\0") == b"x"


def test_new_nodes_below_one_parent_conflict(dom0: Client) -> None:
    first, second = dom0.begin(), dom0.begin()
    assert dom0.ask(WRITE, b"/tool/a\0x", first) == OK
    assert dom0.ask(WRITE, b"/tool/b\0x", second) == OK
    assert dom0.ask(TRANSACTION_END, b"T\0", first) == OK
    assert dom0.ask(TRANSACTION_END, b"T\0", second) == b"!EAGAIN"


def test_a_committed_transaction_fires_what_is_left_of_it(dom0: Client) -> None:
    dom0.ask(WRITE, b"/a/b\0x")
    dom0.ask(WATCH, b"/a\0token\0")
    dom0.ask(WATCH, b"/a/b\0token\0")
    dom0.news()
    transaction = dom0.begin()
    for kind, payload in ((WRITE, b"/a/c\0x"), (MKDIR, b"/a/d\0"), (RM, b"/a/d\0"), (RM, b"/a/b\0")):
        assert dom0.ask(kind, payload, transaction) == OK
    assert dom0.news() == []
    assert dom0.ask(TRANSACTION_END, b"T\0", transaction) == OK
    assert dom0.news() == [b"/a/c\0token\0", b"/a/b\0token\0", b"/a/b\0token\0"]
    transaction = dom0.begin()
    dom0.ask(WRITE, b"/a/c\0y", transaction)
    assert dom0.ask(TRANSACTION_END, b"F\0", transaction) == OK
    assert dom0.news() == []
    assert dom0.ask(READ, b"/a/c\0") == b"x"


def test_an_unknown_transaction(dom0: Client) -> None:
    assert dom0.ask(READ, b"/tool\0", 99) == b"!ENOENT"
    assert dom0.ask(WATCH, b"/tool\0token\0", 99) == OK


def test_a_guest_owns_its_home_in_part(web1: Client) -> None:
    assert web1.ask(READ, b"name\0") == b"web1"
    assert web1.ask(WRITE, b"name\0mine") == b"!EACCES"
    assert web1.ask(WRITE, b"data/a/b\0x") == OK
    assert web1.ask(GET_PERMS, b"data/a\0") == b"n1\0"
    assert web1.ask(SET_PERMS, b"data/a\0n1\0r2\0") == OK
    assert web1.ask(SET_PERMS, b"data/a\0n2\0") == b"!EPERM"
    assert web1.ask(SET_PERMS, b"name\0n0\0b1\0") == b"!EACCES"
    assert web1.ask(RM, b"data\0") == OK


def test_a_guest_does_not_learn_what_it_may_not_see(dom0: Client, web1: Client) -> None:
    dom0.ask(WRITE, b"/secret/a\0x")
    assert web1.ask(READ, b"/secret/a\0") == web1.ask(READ, b"/secret/b\0") == b"!EACCES"
    assert web1.ask(READ, b"data/nothing\0") == b"!ENOENT"
    web1.ask(WATCH, b"/secret\0token\0")
    web1.ask(WATCH, b"@releaseDomain\0token\0")
    web1.news()
    dom0.ask(WRITE, b"/secret/a\0y")
    dom0.ask(RELEASE, b"3\0")
    assert web1.news() == []
    dom0.ask(SET_PERMS, b"/secret/a\0n0\0r1\0")
    dom0.ask(SET_PERMS, b"@releaseDomain\0n0\0r1\0")
    dom0.ask(WRITE, b"/secret/a\0z")
    dom0.ask(RELEASE, b"2\0")
    assert web1.news() == [b"/secret/a\0token\0", b"/secret/a\0token\0", b"@releaseDomain\0token\0"]


@pytest.mark.parametrize("kind", [CONTROL, INTRODUCE, RELEASE, IS_DOMAIN_INTRODUCED, RESUME, SET_TARGET])
def test_what_only_dom0_may(web1: Client, kind: int) -> None:
    assert web1.ask(kind, b"1\0" + b"1\0" + b"1\0") == b"!EACCES"


def test_a_target_shares_its_rights(dom0: Client, web1: Client) -> None:
    assert web1.ask(READ, b"/local/domain/2/name\0") == b"!EACCES"
    dom0.ask(SET_TARGET, b"1\0" + b"2\0")
    assert web1.ask(READ, b"/local/domain/2/name\0") == b"db1"


def test_limits_of_a_guest(web1: Client) -> None:
    assert web1.ask(WRITE, b"data/big\0" + b"x" * 2049) == b"!ENOSPC"
    assert web1.ask(SET_PERMS, b"data\0" + b"n1\0" * 6) == b"!ENOSPC"
    assert [web1.ask(WATCH, b"data\0%d\0" % number) for number in range(130)][-2:] == [OK, b"!E2BIG"]
    assert [web1.ask(TRANSACTION_START, b"\0") for _ in range(12)][-1] == b"!ENOSPC"
    assert web1.ask(MKDIR, b"data" + b"/a" * 900 + b"\0") == OK
    assert web1.ask(MKDIR, b"data" + b"/b" * 100 + b"\0") == b"!ENOSPC"


def test_a_domain_that_is_released_is_disconnected(dom0: Client, web1: Client) -> None:
    dom0.ask(RELEASE, b"1\0")
    assert web1.channel.receive() == b""


def test_a_domain_that_is_introduced_again_begins_afresh(dom0: Client, web1: Client) -> None:
    web1.ask(WATCH, b"data\0token\0")
    transaction = web1.begin()
    assert dom0.ask(INTRODUCE, b"1\0" + b"1\0" + b"1\0") == OK
    assert web1.ask(UNWATCH, b"data\0token\0") == b"!ENOENT"
    assert web1.ask(READ, b"name\0", transaction) == b"!ENOENT"


def test_what_a_toolstack_does_for_a_new_domain(xen: sim.Hypervisor, dom0: Client) -> None:
    with pyxc.connect(xen.connect(), names=False) as opened:
        domid = opened.domains.create(max_vcpus=2).domid
    dom0.ask(WATCH, b"@introduceDomain\0token\0")
    dom0.news()
    xen.introduce(domid, "new1")
    assert dom0.news() == [b"@introduceDomain\0token\0"]
    channel = xen.store.connect(domid)
    guest = Client(channel)
    assert guest.ask(READ, b"name\0") == b"new1"
    assert guest.ask(DIRECTORY, b"cpu\0") == b"0\0" + b"1\0"
    assert guest.ask(WRITE, b"control/shutdown\0") == OK
    channel.close()


def test_only_introduced_domains_connect(xen: sim.Hypervisor) -> None:
    with pytest.raises(ValueError, match="domain 9 was not introduced"):
        xen.store.connect(9)


def test_a_host_needs_no_thread(dom0: Client, web1: Client) -> None:
    assert dom0.ask(READ, b"name\0") != web1.ask(READ, b"name\0")
    assert threading.active_count() == 1


def test_other_processes_reach_it_through_a_socket(
    xen: sim.Hypervisor, dom0: Client, plain_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENSTORED_PATH", str(plain_directory / "socket"))
    with Listener(xen.store, plain_directory / "socket") as listener:
        with StoreClient() as store, store.watch("/a") as watch:
            assert watch.get(10) == ("/a", "/a")
            dom0.ask(WRITE, b"/a/b\0x")
            assert watch.get(10) == ("/a/b", "/a")
            assert store.read("/a/b") == b"x"
        left = StoreClient()
        assert left.list("/a") == ["b"]
    assert not (plain_directory / "socket").exists()
    with pytest.raises(OSError, match="closed the connection"):
        left.read("/a")
    left.close()
    listener.close()
    assert len(xen.store.sessions) == 1


def test_a_socket_where_none_can_be(xen: sim.Hypervisor, plain_directory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Listener(xen.store, plain_directory / "nothing" / "socket")
    assert threading.active_count() == 1


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_nobody_else_may_use_the_socket(xen: sim.Hypervisor, plain_directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with Listener(xen.store, plain_directory / "socket"):
            assert stat.S_IMODE((plain_directory / "socket").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_socket_that_is_in_use_stays(xen: sim.Hypervisor, plain_directory: Path) -> None:
    path = plain_directory / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            Listener(xen.store, path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert threading.active_count() == 1
    with Listener(xen.store, path):
        assert path.is_socket(), "what nobody listens on is replaced"
    path.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        Listener(xen.store, path)
    assert path.read_text() == "mine"


def test_the_end_removes_no_other_socket(xen: sim.Hypervisor, plain_directory: Path) -> None:
    path = plain_directory / "socket"
    with Listener(xen.store, path):
        path.rename(plain_directory / "moved")
        path.write_text("another")
    assert path.read_text() == "another"
    with Listener(xen.store, plain_directory / "socket2"):
        (plain_directory / "socket2").unlink()
