# SPDX-License-Identifier: MIT
"""The connection to a xenstored that may misbehave or be absent, and names of domains from it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from channels import HeldChannel

import pyxc
from pyxc import errors
from pyxc.sim import Hypervisor, named
from pyxc.store import Names, StoreClient, channel

HEADER = struct.Struct("=IIII")
READ, DIRECTORY, ERROR = 2, 1, 16
NOBODY = 65534
NODES = {"/local/domain/1/name": b"web1", "/local/domain": b"0\0" + b"1\0", "/empty": b""}


class FakeXenstored:
    """xenstored's socket with a few nodes; `behave` makes it misbehave."""

    def __init__(self, path: Path) -> None:
        self.behave = ""
        self.asked: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._answer_all(connection)

    def _answer_all(self, connection: socket.socket) -> None:
        while header := connection.recv(HEADER.size, socket.MSG_WAITALL):
            kind, request, _, size = HEADER.unpack(header)
            path = connection.recv(size, socket.MSG_WAITALL).rstrip(b"\0").decode()
            self.asked.append(path)
            if self.behave == "close":
                return
            if self.behave != "silent":
                self._answer(connection, kind, request, path)

    def _answer(self, connection: socket.socket, kind: int, request: int, path: str) -> None:
        if self.behave == "oversized":
            connection.sendall(HEADER.pack(kind, request, 0, 5000))
            return
        if self.behave == "late":
            connection.sendall(HEADER.pack(kind, request - 1, 0, 4) + b"past")
        body = NODES.get(path)
        if self.behave.startswith("E") or body is None:
            kind, body = ERROR, (self.behave or "ENOENT").encode() + b"\0"
        answer = HEADER.pack(kind, request, 0, len(body)) + body
        for at in range(0, len(answer), 5):
            connection.sendall(answer[at : at + 5])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def xenstored(plain_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeXenstored]:
    places = (plain_directory / "nothing", plain_directory / "socket")
    monkeypatch.setattr(channel, "SOCKETS", tuple(map(str, places)))
    monkeypatch.setattr(channel, "DEVICES", ())
    monkeypatch.setattr(Names, "_silent", {})
    fake = FakeXenstored(plain_directory / "socket")
    yield fake
    fake.close()


@pytest.fixture
def client(xenstored: FakeXenstored) -> Iterator[StoreClient]:
    opened = StoreClient(timeout=1)
    yield opened
    opened.close()


def test_nodes_are_read_and_listed(client: StoreClient) -> None:
    assert client.read("/local/domain/1/name") == b"web1"
    assert client.read("/empty") == b""
    assert client.list("/local/domain") == ["0", "1"]


def test_many_reads_do_not_wait_for_each_other() -> None:
    """This xenstored replies to eight requests at once."""

    class Gathering(HeldChannel):
        def send(self, data: bytes) -> int:
            self.sent = getattr(self, "sent", 0) + 1
            (self.hold if self.sent % 8 else self.release)()
            return super().send(data)

    store = Hypervisor(named("sim:xen-4.17")).store
    with StoreClient(lambda: Gathering(store.connect()), timeout=10) as client:
        assert client.read_many(["/local/domain/1/name"] * 160) == [b"web1"] * 160


def test_a_daemon_that_reads_nothing_until_it_could_reply_blocks_nobody(
    client: StoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, value = "/a" * 1500, bytes(4096)
    monkeypatch.setitem(NODES, path, value)
    assert client.read_many([path] * 200) == [value] * 200


def test_many_reads_end_with_the_connection(client: StoreClient, xenstored: FakeXenstored) -> None:
    client.timeout = 0.1
    xenstored.behave = "silent"
    with pytest.raises(errors.StoreError, match="read of /empty failed: nothing replies") as caught:
        client.read_many(["/empty", "/local"])
    assert caught.value.errno == errno.ETIMEDOUT
    xenstored.behave = ""
    client.timeout = 1
    assert client.read_many(["/local/domain/1/name", "/empty"]) == [b"web1", b""]
    xenstored.behave = "close"
    with pytest.raises(errors.StoreError, match="read of /empty failed: xenstored closed") as caught:
        client.read_many(["/empty", "/local"])
    assert caught.value.errno == errno.ECONNRESET


def test_a_node_that_is_not_there_is_none(client: StoreClient) -> None:
    assert client.read("/local/domain/9/name") is None
    assert client.list("/nowhere") is None


def test_an_answer_to_an_older_question_is_skipped(client: StoreClient, xenstored: FakeXenstored) -> None:
    xenstored.behave = "late"
    assert client.read("/local/domain/1/name") == b"web1"


@pytest.mark.parametrize(("refusal", "number"), [("EACCES", errno.EACCES), ("EWEIRD", errno.EIO)])
def test_a_refusal_has_its_errno(
    client: StoreClient, xenstored: FakeXenstored, refusal: str, number: int
) -> None:
    xenstored.behave = refusal
    with pytest.raises(errors.StoreError, match=f"xenstore read of /empty failed: {refusal}, ") as caught:
        client.read("/empty")
    assert caught.value.errno == number


def test_an_oversized_answer_is_refused(client: StoreClient, xenstored: FakeXenstored) -> None:
    xenstored.behave = "oversized"
    with pytest.raises(errors.StoreError, match="announces 5000 bytes"):
        client.read("/empty")


def test_a_closed_connection_is_told(client: StoreClient, xenstored: FakeXenstored) -> None:
    xenstored.behave = "close"
    with pytest.raises(errors.StoreError, match="closed the connection"):
        client.read("/empty")


def test_names_come_from_the_daemon(xenstored: FakeXenstored) -> None:
    names = Names()
    assert (names.domain_name(1), names.domain_name(2)) == ("web1", None)
    assert xenstored.asked == ["/local/domain/1/name", "/local/domain/2/name"]
    names.close()
    assert names.domain_name(1) == "web1", "closing is not the end"
    names.close()


def test_names_of_many_domains() -> None:
    host = Hypervisor(named("sim:xen-4.17"))
    with pyxc.connect(host.connect()) as xen:
        known = [(info.domid, info.handle) for info in xen.domains.infos()]
        assert xen.names.domain_names([*known, (99, bytes(16))]) == ["Domain-0", "web1", "db1", "build", None]
        xen.store.write("/local/domain/2/vm", "/vm/another")
        assert xen.names.domain_names(known) == ["Domain-0", "web1", None, "build"]
        for session in list(host.store.sessions):
            host.store.disconnect(session)
        assert xen.names.domain_names(known[:2]) == ["Domain-0", "web1"]


def test_names_of_many_domains_without_a_reply_are_none(xenstored: FakeXenstored) -> None:
    xenstored.behave = "silent"
    with pytest.warns(RuntimeWarning, match="domains are shown without names: nothing replies") as warned:
        assert Names().domain_names([(domid, bytes(16)) for domid in range(100)]) == [None] * 100
    assert len(warned) == 1


def test_a_name_that_is_only_shown_is_not_waited_for_long(xenstored: FakeXenstored) -> None:
    xenstored.behave = "silent"
    started = time.monotonic()
    with pytest.warns(RuntimeWarning, match="domains are shown without names: nothing replies") as warned:
        assert Names().domain_name(1) is None
    assert 0.9 < time.monotonic() - started < 10
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [Names().domain_name(domid) for domid in (1, 2, 3)] == [None] * 3
    assert len(xenstored.asked) == 1, "no other handle waits for it for a while"


def test_a_name_that_decides_is_waited_for_and_never_invented(
    xenstored: FakeXenstored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyxc.store.names.TIMEOUT_S", 0.1)
    monkeypatch.setattr("pyxc.store.names._GLANCE_S", 0.1)
    names = Names()
    xenstored.behave = "silent"
    with pytest.warns(RuntimeWarning):
        assert names.domain_name(1) is None
    for question in (lambda: names.domain_name(1, strictly=True), lambda: names.pool_name(0, strictly=True)):
        with pytest.raises(errors.StoreError, match="nothing replies") as caught:
            question()
        assert caught.value.errno == errno.ETIMEDOUT
    xenstored.behave = ""
    assert names.domain_name(1, strictly=True) == "web1"
    assert (names.domain_name(1), Names._silent) == ("web1", {}), "and no other handle holds back any more"
    names.close()


def test_a_late_answer_brings_the_names_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Names, "_silent", {})
    monkeypatch.setattr("pyxc.store.names._GLANCE_S", 0.01)
    held = HeldChannel(Hypervisor(named("sim:xen-4.17")).store.connect())
    names = Names(lambda: held, "a target")
    held.hold()
    with pytest.warns(RuntimeWarning, match="nothing replies"):
        assert names.domain_name(1) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names.domain_name(1) is None
        held.release()
        assert names.domain_name(1) == "web1"
    held.hold()
    with pytest.warns(RuntimeWarning, match="did not reply within 0.01 s"):
        assert names.domain_name(2) is None, "that is said again"
    names.close()


def test_a_restart_of_xenstored_costs_no_name() -> None:
    host = Hypervisor(named("sim:xen-4.17"))
    with pyxc.connect(host.connect()) as xen:
        assert xen.domains["web1"].domid == 1
        for session in list(host.store.sessions):
            host.store.disconnect(session)
        assert xen.domains["web1"].domid == 1
        for session in list(host.store.sessions):
            host.store.disconnect(session)
        assert xen.domains[1].name == "web1"


@pytest.mark.usefixtures("no_collection")
def test_a_restart_of_xenstored_costs_no_descriptor() -> None:
    host = Hypervisor(named("sim:xen-4.17"))
    with pyxc.connect(host.connect()) as xen:
        assert xen.domains[1].name == "web1"
        opened = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            for session in list(host.store.sessions):
                host.store.disconnect(session)
            assert xen.domains[1].name == "web1"
        assert len(os.listdir("/proc/self/fd")) <= opened


def test_a_refused_name_hides_no_other(xenstored: FakeXenstored) -> None:
    xenstored.behave = "EACCES"
    names = Names()
    with pytest.warns(RuntimeWarning, match="domains are shown without names: EACCES"):
        assert names.domain_name(1) is None
    with pytest.raises(errors.StoreError, match="EACCES"):
        names.domain_name(1, strictly=True)
    xenstored.behave = ""
    assert names.domain_name(1) == "web1"
    names.close()


def test_one_host_without_a_store_takes_no_names_from_another() -> None:
    without = Hypervisor(named("sim:xen-4.17"), with_store=False)
    with pyxc.connect(without.connect("sim:xen-4.17")) as xen:
        with pytest.warns(RuntimeWarning, match="no xenstored runs"):
            assert xen.domains[1].name is None
        assert xen.domains[1].name is None, "it is said once"
    with pyxc.open("sim:xen-4.17") as xen:
        assert xen.domains[1].name == "web1"


def test_without_any_store_names_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "SOCKETS", (str(tmp_path / "nothing"),))
    monkeypatch.setattr(channel, "DEVICES", (str(tmp_path / "nothing"),))
    monkeypatch.setattr(Names, "_silent", {})
    with pytest.warns(RuntimeWarning, match="no xenstore"):
        assert Names().domain_name(1) is None


def test_without_permission_names_are_none(
    xenstored: FakeXenstored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(channel, "_open_socket", refuse)
    with StoreClient() as client, pytest.raises(errors.StoreError, match="no permission") as caught:
        client.read("/empty")
    assert caught.value.errno == errno.EPERM
    with pytest.warns(RuntimeWarning, match="no permission to use xenstore .*socket"):
        assert Names().domain_name(1) is None


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@as_root
@pytest.mark.parametrize("kind", ["socket", "device"])
def test_root_does_not_use_what_belongs_to_another_user(
    xenstored: FakeXenstored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / kind
    path.touch()
    os.chown(path, NOBODY, NOBODY)
    monkeypatch.setenv("XENSTORED_PATH", str(path))
    refused = rf"{path} belongs to user {NOBODY}: root uses only a xenstored that runs as root"
    with StoreClient() as client, pytest.raises(errors.StoreError, match=refused) as caught:
        client.read("/empty")
    assert caught.value.errno == errno.EACCES
    with pytest.raises(errors.StoreError, match=refused):
        Names().domain_name(1, strictly=True)
    assert xenstored.asked == []


@as_root
def test_root_does_not_use_what_another_user_serves(
    plain_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plain_directory / "socket"
    monkeypatch.setenv("XENSTORED_PATH", str(path))
    with socket.socket(socket.AF_UNIX) as listener, StoreClient(timeout=0.1) as client:
        listener.bind(str(path))
        ready, says_ready = os.pipe()
        child = os.fork()
        if not child:
            os.setuid(NOBODY)
            listener.listen()  # whose this is decides, not whose the file is
            os.write(says_ready, b".")
            signal.pause()
        try:
            os.read(ready, 1)
            with pytest.raises(errors.StoreError, match=f"is served by user {NOBODY}"):
                client.read("/empty")
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(ready)
            os.close(says_ready)


def test_the_device_takes_the_place_of_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "xenbus"
    device.write_bytes(b"")
    monkeypatch.setattr(channel, "SOCKETS", ())
    monkeypatch.setattr(channel, "DEVICES", (str(tmp_path / "nothing"), str(device)))
    with StoreClient() as client, pytest.raises(errors.StoreError, match="closed the connection"):
        client.read("/x")
    assert device.read_bytes()[: HEADER.size] == HEADER.pack(READ, 1, 0, 3)


def test_silence_ends_a_request_not_the_connection(client: StoreClient, xenstored: FakeXenstored) -> None:
    client.timeout = 0.1
    xenstored.behave = "silent"
    with pytest.raises(errors.StoreError, match="nothing replies") as caught:
        client.read("/empty")
    assert caught.value.errno == errno.ETIMEDOUT
    xenstored.behave = ""
    assert client.read("/local/domain/1/name") == b"web1"


def test_nothing_is_watched_where_nobody_answers(client: StoreClient, xenstored: FakeXenstored) -> None:
    """The kernel's device would wait for ever, beyond any signal."""
    client.timeout = 0.1
    xenstored.behave = "silent"
    with pytest.raises(errors.StoreError, match="nothing replies"):
        client.watch("/local")
    assert xenstored.asked == ["0"]


def test_a_connection_that_ended_stays_so(client: StoreClient, xenstored: FakeXenstored) -> None:
    watch = client.watch()
    xenstored.behave = "close"
    for question in (lambda: client.read("/empty"), lambda: client.list("/empty"), watch.get):
        with pytest.raises(errors.StoreError, match="closed the connection") as caught:
            question()
        assert caught.value.errno == errno.ECONNRESET
    watch.close()


def test_a_daemon_that_reads_nothing_is_not_waited_for(
    plain_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENSTORED_PATH", str(plain_directory / "deaf"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(plain_directory / "deaf"))
        listener.listen()
        with StoreClient(timeout=0.005) as client:
            for _ in range(100):
                with pytest.raises(errors.StoreError) as caught:
                    client.write("/a", bytes(4000))
                assert caught.value.errno in (errno.ETIMEDOUT, errno.ECONNRESET)


def test_requests_of_many_threads(client: StoreClient) -> None:
    found: list[bytes | None] = []
    threads = [
        threading.Thread(target=lambda: found.extend(client.read("/local/domain/1/name") for _ in range(50)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"web1"] * 300


def test_the_environment_says_where_xenstored_is(
    xenstored: FakeXenstored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENSTORED_PATH", channel.SOCKETS[-1])
    monkeypatch.setattr(channel, "SOCKETS", ())
    with StoreClient() as client:
        assert client.read("/local/domain/1/name") == b"web1"
    monkeypatch.setenv("XENSTORED_PATH", "/nowhere")
    with (
        StoreClient() as client,
        pytest.raises(errors.StoreError, match="no xenstore: at /nowhere") as caught,
    ):
        client.read("/a")
    assert caught.value.errno == errno.ENODEV


def test_a_child_cannot_use_the_connection_of_its_parent(client: StoreClient) -> None:
    watch = client.watch()
    assert client.read("/empty") == b""
    child = os.fork()
    if not child:
        refused = 0
        for question in (lambda: client.read("/empty"), lambda: watch.get(0), lambda: client.begin()):
            try:
                question()
            except RuntimeError as error:
                refused += "opened before a fork" in str(error)
        watch.close()
        client.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert client.read("/local/domain/1/name") == b"web1"


def test_a_client_is_closed_for_good(client: StoreClient) -> None:
    assert repr(StoreClient()) == "<StoreClient, not connected>"
    assert client.read("/empty") == b""
    assert repr(client) == "<StoreClient, connected>"
    client.close()
    client.close()
    assert repr(client) == "<StoreClient, closed>"
    with pytest.raises(ValueError, match="this xenstore client is closed"):
        client.read("/empty")
