# SPDX-License-Identifier: MIT
"""A simulated host that one process serves to others: what one of them does, the others see."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pyxc
from pyxc.link import served_wire as wire
from pyxc.store.wire import Message

PROGRAM = [sys.executable, "-m", "pyxc"]
PERSON_S = 20


class Served:
    """A process that serves a host."""

    def __init__(self, start: Callable[..., subprocess.Popen[str]], path: Path) -> None:
        self.path = path / "socket"
        words = [*PROGRAM, "sim", "--socket", str(self.path), "--state", str(path / "state")]
        self._start = lambda: start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.begin()

    def begin(self) -> None:
        self.process = self._start()
        assert self.process.stdout is not None
        self.target = self.process.stdout.readline().removeprefix("export PYXC_TARGET=").strip()

    def end(self, number: int) -> tuple[int, str]:
        """How it ended, and its complaints."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=PERSON_S)
        return self.process.returncode, err

    def connected(self, first: bytes = b"") -> socket.socket:
        """A client other than pyxc, as far as its greeting."""
        found = socket.socket(socket.AF_UNIX)
        found.settimeout(PERSON_S)
        found.connect(str(self.path))
        found.sendall(first)
        if first:
            socket.recv_fds(found, wire.LINE_MOST, 1)
        return found


@pytest.fixture
def served(start: Callable[..., subprocess.Popen[str]], plain_directory: Path) -> Served:
    return Served(start, plain_directory)


@pytest.fixture
def two(served: Served) -> Iterator[tuple[pyxc.Xen, pyxc.Xen]]:
    with pyxc.open(served.target) as one, pyxc.open(served.target) as other:
        yield one, other


def test_commands_of_several_processes_share_the_host(served: Served, plain_directory: Path) -> None:
    def run(*words: str) -> str:
        command = [*PROGRAM, "--target", served.target, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PERSON_S).stdout

    assert served.target == f"sim:@{plain_directory}/socket"
    assert served.path.stat().st_mode & 0o777 == 0o600
    run("pause", "web1")
    assert "web1" in run("rename", "db1", "db2") + run("list")
    with pyxc.open(served.target) as xen:
        assert xen.domains["web1"].info().paused
        assert xen.domains["db2"].domid == 2
    assert served.end(signal.SIGTERM) == (143, "")
    assert not served.path.exists()
    with pyxc.open(f"sim:@{plain_directory}/state") as xen:
        assert xen.domains["db2"].domid == 2
    served.begin()
    assert "db2" in run("list")
    assert served.end(signal.SIGINT)[0] == 130


def test_watches_and_events_cross_processes(two: tuple[pyxc.Xen, pyxc.Xen]) -> None:
    one, other = two
    with one.watch_domains(interval=PERSON_S) as watcher, one.store.watch("/tool/x") as watch:
        assert watch.get(timeout=PERSON_S)
        other.store.write("/tool/x/y", "1")
        event = watch.get(timeout=PERSON_S)
        assert event is not None
        assert event.path == "/tool/x/y"
        other.domains["db1"].destroy()
        seen = watcher.wait(timeout=PERSON_S)
        assert seen is not None
        assert seen.domid == 2
    with one.events() as mine, other.events() as theirs:
        offered = mine.bind_unbound(0)
        bound = theirs.bind_interdomain(0, offered)
        for _ in range(3):
            theirs.notify(bound)
            assert mine.wait(timeout=PERSON_S) == offered


def test_memory_is_the_same_and_kept_while_anyone_maps_it(two: tuple[pyxc.Xen, pyxc.Xen]) -> None:
    one, other = two
    memory, same = one.domains["db1"].memory, other.domains["db1"].memory
    assert memory.map_present(array("Q", [5, 2**30])).errors == (0, errno.EINVAL)
    with memory.map([5], writable=True) as mapped, memoryview(mapped) as view, same.map([5]) as seen:
        view[:4] = b"pyxc"
        assert seen[:4] == b"pyxc"
        with pytest.raises(pyxc.DomainStuck):
            other.domains["db1"].destroy(timeout=0)
        assert [info.dying for info in other.domains.infos() if info.domid == 2] == [True]
    one.domains.infos()
    assert [info.domid for info in other.domains.infos()] == [0, 1, 3]


def test_a_killed_client_leaves_nothing_mapped(served: Served) -> None:
    code = (
        "import sys, pyxc; kept = pyxc.open(sys.argv[1]).domains[2].memory.map([5]);"
        "print(1, flush=True); input()"
    )
    words = [sys.executable, "-c", code, served.target]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        client.stdout.readline()
        client.kill()
    with pyxc.open(served.target) as xen:
        xen.domains[2].destroy()
        assert 2 not in [info.domid for info in xen.domains.infos()]


def _link_message(head: str, body: bytes = b"") -> bytes:
    return Message(0, 1, 0, head.encode() + b"\n" + body).encode()


def _asking(do: str, arguments: str) -> str:
    return f'{{"do": "{do}", "arguments": {arguments}, "ended": []}}'


HOSTILE = {
    "no greeting": b"\xff\xfe\n",
    "a stranger's token": b"store 0123\n",
    "a greeting without end": b"x" * 100_000,
}
MALFORMED = {
    "a message too long": struct.pack("=IIII", 0, 1, 0, 2**32 - 1),
    "no JSON": _link_message("{"),
    "nested too deeply": _link_message("[" * 100_000),
    "an unknown request": _link_message(_asking("__init__", "[]")),
    "too few arguments": _link_message(_asking("hypercall", "[1]")),
    "a number that is none": _link_message(_asking("hypercall", '["1", 0, 0, 0, 0, 0, 0]')),
    "half a frame": _link_message(_asking("map_frames", "[1, 0]"), b"odd"),
    "a device that is none": _link_message(_asking("event_take", "[[]]")),
}


def test_a_hostile_client_harms_nobody(served: Served) -> None:
    for what, data in HOSTILE.items():
        with served.connected() as client:
            client.sendall(data)
            assert client.recv(1) == b"", what
    for what, data in MALFORMED.items():
        with served.connected(b"link\n") as client:
            client.sendall(data)
            answer = client.recv(wire.LINE_MOST)
            assert answer == b"" or b'"error"' in answer, what
    half = served.connected(b"link\n")
    half.sendall(_link_message(_asking("clock_ns", "[]"))[:-3])
    outside = _asking("hypercall", f"[32, 1, {2**64 - 8}, 0, 0, 0, {2**64 - 8}]")
    with served.connected(b"link\n") as client:
        client.sendall(_link_message(outside, bytes(4096)))
        assert b'"result"' in client.recv(1 << 16)
    with pyxc.open(served.target) as xen:
        assert len(xen.domains) == 4
    half.close()
    status, complaints = served.end(signal.SIGTERM)
    assert status == 143
    assert all(line.startswith("a client was disconnected: ") for line in complaints.splitlines())


def test_a_client_that_does_not_read_is_left(served: Served) -> None:
    with served.connected(b"link\n") as client:
        client.setblocking(False)
        asking = _link_message(_asking("hypercall", "[1, 0, 0, 0, 0, 0, 0]"), bytes(1 << 20))
        with pytest.raises(BlockingIOError):
            for _ in range(100):
                client.sendall(asking)
        with pyxc.open(served.target) as xen:
            assert len(xen.domains) == 4


def test_a_signal_handler_may_use_the_link_that_it_interrupts(served: Served) -> None:
    with pyxc.open(served.target) as xen:
        found: list[bool] = []

        def ask(*_: object) -> None:
            found.append(xen.domains[1].info().paused)
            signal.setitimer(signal.ITIMER_REAL, 0.0005)

        before = signal.signal(signal.SIGALRM, ask)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        try:
            while len(found) < 20:
                assert len(xen.domains.infos()) == 4
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert set(found) == {False}


def test_one_host_for_one_socket(served: Served) -> None:
    def tried(path: Path) -> tuple[int, str]:
        words = [*PROGRAM, "sim", "--socket", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PERSON_S, check=False)
        return done.returncode, done.stderr

    assert tried(served.path) == (1, f"pyxc: {served.path} is in use by another server\n")
    file = served.path.with_name("file")
    file.write_text("mine")
    assert tried(file)[0] == 1
    assert file.read_text() == "mine"
    with pyxc.open(served.target) as xen:
        served.process.kill()
        served.process.wait()
        with pytest.raises(pyxc.NotXenError, match="has gone"):
            xen.domains.infos()
    with pytest.raises(pyxc.NotXenError, match="no simulated host answers at"):
        pyxc.open(served.target)
    served.begin()
    with pyxc.open(served.target) as xen, pyxc.open_store(served.target) as store:
        assert store.read("/local/domain/1/name") == b"web1"
        assert len(xen.domains) == 4


def test_a_memory_that_the_server_could_cut_short_is_not_mapped(plain_directory: Path) -> None:
    path = str(plain_directory / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        child = os.fork()
        if child == 0:
            connection, _ = listening.accept()
            memory = os.memfd_create("short")
            os.ftruncate(memory, 4096)
            hello = {"byteorder": "little", "kernel_files": None, "frames": 1, "token": "1"}
            socket.send_fds(connection, [wire.packed(hello)], [memory])
            connection.recv(100)
            os._exit(0)
        with pytest.raises(pyxc.NotXenError, match="could be taken away"):
            pyxc.open(f"sim:@{path}")
        os.waitpid(child, 0)


def test_a_batch_and_a_large_list_fit(two: tuple[pyxc.Xen, pyxc.Xen]) -> None:
    one, other = two
    assert len(one.sample(full=True).domains) == 4
    assert array("Q", one.domains["web1"].memory.frames()) == array("Q", other.domains[1].memory.frames())
