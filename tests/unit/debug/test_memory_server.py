# SPDX-License-Identifier: MIT
"""A memory server and its client, over a socket."""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hosts import Boot, Host

from pyxc import DecodeError, NotMapped, errors
from pyxc.debug import DomainMemory, MemorySession, RemoteMemory, StandardEnds, connect_memory
from pyxc.debug.guest_memory import PHYSICAL, WITHOUT_XEN
from pyxc.debug.memory_wire import GREETING, Op, Request, Status, reply

TEXT = 0xFFFF_FFFF_8010_0000


class Served:
    """A server in a thread, and its client."""

    def __init__(self, host: Host, name: str, writable: bool = False) -> None:
        near, far = socket.socketpair()

        self.session = MemorySession(DomainMemory(host.xen.domains[name], writable=writable))

        def serve() -> None:
            with far, closing(self.session):
                self.session.serve(far)

        self.thread = threading.Thread(target=serve)
        self.thread.start()
        self.client = RemoteMemory(near)

    def close(self) -> None:
        self.client.close()
        self.thread.join(120)
        assert not self.thread.is_alive()


def test_memory_and_registers_are_those_of_the_guest(host: Host) -> None:
    for name in ("web1", "db1"):
        domain = host.xen.domains[name]
        served = Served(host, name)
        with DomainMemory(domain) as local:
            remote = served.client
            assert remote.facts == local.facts
            assert remote.read(PHYSICAL, 0x2000, 5000) == local.read(PHYSICAL, 0x2000, 5000)
            size = (2 << 20) + 5 if name == "db1" else 1 << 18
            assert remote.read(PHYSICAL, 0x2000, size) == local.read(PHYSICAL, 0x2000, size)
            assert remote.registers(0) == dict(domain.vcpu(0).context())
            with pytest.raises(NotMapped) as refused:
                remote.read(0, 0x1234, 4)
            assert refused.value.address == 0x1234
            with pytest.raises(OSError, match="read-only"):
                remote.write(PHYSICAL, 0, b"x")
            with pytest.raises(OSError, match="vcpu"):
                remote.registers(7)
            with pytest.raises(OSError, match="VMCOREINFO"):
                remote.vmcoreinfo()
            remote.refresh()
        served.close()


def test_writing_if_the_server_allows_it(host: Host) -> None:
    served = Served(host, "db1", writable=True)
    served.client.write(0, TEXT + 4096, b"hello")
    assert served.client.read(PHYSICAL, 0x101000, 5) == b"hello"
    served.close()


@pytest.mark.parametrize(
    "data", [b"\xff" * 16, b"\1\0\0\0\xff\xff\xff\xff" + bytes(8), b"\1\0\xf0\xff" + bytes(12)]
)
def test_what_is_no_request(host: Host, data: bytes) -> None:
    near, far = socket.socketpair()
    with near, far, DomainMemory(host.xen.domains["db1"]) as memory:
        near.sendall(data)
        with pytest.raises(DecodeError, match="the client sent"):
            MemorySession(memory).serve(far)
        assert near.recv(8) == GREETING


def test_a_client_that_does_not_wait_for_the_answer(host: Host) -> None:
    near, far = socket.socketpair()
    with far, DomainMemory(host.xen.domains["db1"]) as memory:
        for _ in range(4):
            near.sendall(Request(Op.READ, PHYSICAL, 0x2000, 1 << 20).encode())
        near.close()
        MemorySession(memory).serve(far)


def test_clients_of_a_server_that_ends(host: Host) -> None:
    served = Served(host, "db1")
    served.session.close()
    with pytest.raises(OSError, match="about to end"):
        served.client.read(PHYSICAL, 0x2000, 8)
    served.close()


FACTS = b'{"domid": 1, "uuid": "x", "is_hvm": true, "physical_bytes": 4096, "nr_vcpus": 1}'


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-",
        GREETING + reply(Status.OK, b"[]"),
        GREETING + reply(Status.OK, b"{}"),
        GREETING + reply(Status.OK, b"{" * 5000),
        GREETING + struct.pack("<BxxxI", 9, 0),
        GREETING + struct.pack("<BxxxI", 0, 1 << 31),
        GREETING + reply(Status.OK, FACTS.replace(b"4096", b'"many"')),
    ],
)
def test_a_hostile_server(sent: bytes) -> None:
    near, far = socket.socketpair()
    with near, far:
        far.sendall(sent)
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(DecodeError):
            RemoteMemory(near)


def test_a_server_that_sends_less_or_ends() -> None:
    near, far = socket.socketpair()
    with near, far:
        far.sendall(GREETING + reply(Status.OK, FACTS) + reply(Status.OK, b"ab"))
        client = RemoteMemory(near)
        with pytest.raises(DecodeError, match="2 bytes instead of 4"):
            client.read(0, 0, 4)
        far.sendall(reply(Status.NOT_MAPPED, b"no number") + reply(Status.OK, b'{"rip": "x"}'))
        with pytest.raises(OSError, match="no number"):
            client.read(0, 0, 4)
        with pytest.raises(DecodeError, match="not a number"):
            client.registers(0)
        far.close()
        with pytest.raises((EOFError, OSError)):
            client.read(0, 0, 4)


def test_places(host: Host, plain_directory: Path) -> None:
    for where in ("db1", "tcp:nowhere", "tcp:127.0.0.1:99999", "unix:"):
        with pytest.raises(ValueError, match=r"expected unix:PATH or tcp:HOST:PORT"):
            connect_memory(where)
    path = str(plain_directory / "memory")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, DomainMemory(host.xen.domains["db1"]) as memory:
                MemorySession(memory).serve(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        with connect_memory(f"unix:{path}") as client:
            assert client.read(0, TEXT, 3) == b"db1"
        thread.join(120)
    with pytest.raises(OSError):
        connect_memory(f"unix:{path}")


def test_standard_input_and_output(host: Host) -> None:
    requests, answers = os.pipe(), os.pipe()
    os.write(requests[1], Request(Op.READ, PHYSICAL, 0x100000, 3).encode())
    os.close(requests[1])
    with DomainMemory(host.xen.domains["db1"]) as memory:
        MemorySession(memory).serve(StandardEnds(requests[0], answers[1]))
    assert os.read(answers[0], 100) == GREETING + reply(Status.OK, b"db1")
    for end in (requests[0], *answers):
        os.close(end)


def test_memory_of_a_32_bit_pv_guest_is_virtual_only(boot: Boot) -> None:
    from pyxc import sim

    host = boot("4.10")
    web = host.xen.domains.build(sim.kernel("pv32"), memory_kb=40 << 10)
    with DomainMemory(web) as memory:
        assert memory.facts.physical_bytes == 0
        assert len(memory.read(0, web.vcpu(0).context()["eip"], 16)) == 16
        for place in (PHYSICAL, WITHOUT_XEN):
            with pytest.raises(errors.Unsupported):
                memory.read(place, 0, 1)
    web.destroy()
