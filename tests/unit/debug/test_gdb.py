# SPDX-License-Identifier: MIT
"""The stub of GDB's protocol, spoken to by hand and by GDB itself."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts import Boot, Host

from pyxc import DecodeError, DomainGone, sim
from pyxc.debug import GdbSession
from pyxc.debug.gdb_packets import INTERRUPT, NACK, Packets, escaped, packet

TEXT = 0xFFFF_FFFF_8010_0000


class Debugger:
    """A debugger's end of a session that runs in a thread."""

    def __init__(self, host: Host, name: str) -> None:
        self.end, other = socket.socketpair()
        self.end.settimeout(120)
        self._packets = Packets()
        self._got: list[bytes] = []
        self.failed: list[BaseException] = []

        def serve() -> None:
            with other:
                try:
                    GdbSession(host.xen.domains[name]).serve(other)
                except BaseException as error:
                    self.failed.append(error)

        self.thread = threading.Thread(target=serve)
        self.thread.start()

    def ask(self, content: bytes) -> bytes:
        self.end.sendall(packet(content))
        return self.reply()

    def reply(self) -> bytes:
        while not self._got:
            data = self.end.recv(1 << 16)
            assert data, "the session ended"
            self._got += self._packets.feed(data)
        return self._got.pop(0)

    def leave(self) -> None:
        self.end.close()
        self.thread.join(120)
        assert not self.thread.is_alive()
        assert self.failed == []


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def test_threads_registers_and_memory(host: Host) -> None:
    gdb = Debugger(host, "web1")
    assert b"qXfer:features:read+" in gdb.ask(b"qSupported:xmlRegisters=i386")
    assert gdb.ask(b"QStartNoAckMode") == b"OK"
    assert host.xen.domains["web1"].info().paused
    assert gdb.ask(b"?") == b"T05thread:1;"
    assert (gdb.ask(b"qfThreadInfo"), gdb.ask(b"qsThreadInfo")) == (b"m1,2", b"l")
    assert bytes.fromhex(gdb.ask(b"qThreadExtraInfo,2").decode()) == b"vcpu 1"
    context = host.xen.domains["web1"].vcpu(1).context()
    assert gdb.ask(b"Hg2") == b"OK"
    registers = bytes.fromhex(gdb.ask(b"g").replace(b"xx", b"00").decode())
    words = [int.from_bytes(registers[8 * n : 8 * n + 8], "little") for n in range(17)]
    assert words[16] == context["rip"]
    assert words[7] == context["rsp"]
    assert int.from_bytes(registers[-8:], "little") == context["gs_base_kernel"]
    p2m = host.xen.domains["web1"].memory.p2m()
    read = bytes.fromhex(gdb.ask(b"mffffc90000001000,10").decode())
    assert int.from_bytes(read[:8], "little") == p2m[0]
    assert gdb.ask(b"m0,8") == gdb.ask(b"mffffffffffffffff,8") == b"E0e"
    for refused in (
        b"M0,1:00",
        b"Z0,0,1",
        b"G00",
        b"m",
        b"mx,y",
        b"m1,1,1",
        b"Hg9",
        b"qXfer:features:read:target.xml:",
    ):
        assert gdb.ask(refused).startswith(b"E."), refused
    assert gdb.ask(b"vMustReplyEmpty") == b""
    gdb.leave()
    assert not host.xen.domains["web1"].info().paused


def test_continue_and_interrupt(host: Host) -> None:
    gdb, db1 = Debugger(host, "db1"), host.xen.domains["db1"]
    assert gdb.ask(b"?") == b"T05thread:1;"
    gdb.end.sendall(packet(b"c"))
    until(lambda: not db1.info().paused)
    gdb.end.sendall(INTERRUPT)
    assert gdb.reply() == b"T02thread:1;"
    assert db1.info().paused
    assert gdb.ask(b"D") == b"OK"
    gdb.leave()
    assert not db1.info().paused


def test_a_domain_that_ends_while_it_runs(host: Host) -> None:
    gdb = Debugger(host, "db1")
    assert gdb.ask(b"?") == b"T05thread:1;"
    gdb.end.sendall(packet(b"c"))
    until(lambda: not host.xen.domains["db1"].info().paused)
    host.xen.domains["db1"].destroy()
    assert gdb.reply() == b"W00"
    gdb.leave()


def test_a_paused_guest_stays_paused(host: Host) -> None:
    gdb = Debugger(host, "build")
    assert b"pyxc unpause" in bytes.fromhex(gdb.ask(b"c")[1:].decode())
    assert gdb.reply() == b"T05thread:1;"
    gdb.leave()
    assert host.xen.domains["build"].info().paused


def test_a_guest_without_paging_is_described_as_32_bit(host: Host) -> None:
    web = host.xen.domains.build(sim.kernel("pvh"), memory_kb=16 << 10)
    session = GdbSession(web)
    description = session.reply(b"qXfer:features:read:target.xml:0,ffff")
    assert description is not None
    assert b"<architecture>i386</architecture>" in description
    registers = session.reply(b"g")
    assert registers is not None
    assert int.from_bytes(bytes.fromhex(registers[64:72].decode()), "little") == web.vcpu(0).context()["rip"]
    session._forget()
    web.destroy()


def test_a_domain_that_has_gone(host: Host) -> None:
    session = GdbSession(host.xen.domains["build"])
    host.xen.domains["build"].destroy()
    assert session.reply(b"g") == b"E.the domain has gone"
    near, far = socket.socketpair()
    with near, far, pytest.raises((DomainGone, LookupError)):
        session.serve(far)


def test_packets_in_pieces_and_damaged() -> None:
    packets, found = Packets(), []
    stream = b"+" + packet(b"g") + INTERRUPT + b"$m0,1#00" + packet(escaped(b"a#$}*b"))
    for byte in stream:
        found += packets.feed(bytes([byte]))
    assert found == [b"g", INTERRUPT, NACK, escaped(b"a#$}*b")]
    with pytest.raises(DecodeError, match="more than"):
        list(Packets().feed(b"$" + b"x" * 20000))


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_itself(boot: Boot, tmp_path: Path) -> None:
    """Threads, registers of both widths, memory, a refused breakpoint, and a detach."""
    host = boot()
    for name, address in (("web1", "0xffffc90000001000"), ("db1", f"{TEXT:#x}")):
        listening = socket.create_server(("127.0.0.1", 0))
        domain = host.xen.domains[name]

        def serve(listening: socket.socket = listening, name: str = name) -> None:
            connection, _ = listening.accept()
            with connection:
                GdbSession(host.xen.domains[name]).serve(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        commands = [
            "set confirm off", "set pagination off",
            f"target remote 127.0.0.1:{listening.getsockname()[1]}",
            "info threads", "p/x $rip", "p/x $cs", f"x/2xg {address}", "stepi", "detach",
        ]  # fmt: skip
        words = [word for command in commands for word in ("-ex", command)]
        done = subprocess.run(["gdb", "-nx", "-batch", *words], capture_output=True, text=True, timeout=120)
        thread.join(120)
        listening.close()
        said = done.stdout + done.stderr
        assert f"{domain.vcpu(0).context()['rip']:#x}" in said, said
        assert f"vcpu {len(domain.vcpus) - 1}" in said, said
        with domain.memory.virtual() as space:
            assert f"0x{space.u64(int(address, 16)):016x}" in said, said
        assert "cannot single-step" in said, said
        assert not domain.info().paused


KILLED = """
import os, sys, threading
import pyxc
from pyxc.debug import GdbSession

xen = pyxc.open("sim:xen-4.17")

def end():
    paused = [left.kind for left in xen.leftovers()].count("paused")
    os._exit(0 if paused == 2 else 1)

class Silent:
    def recv(self, size):
        end()
GdbSession(xen.domains["web1"]).serve(Silent())
"""


def test_doctor_lists_what_a_killed_stub_left() -> None:
    assert subprocess.run([sys.executable, "-c", KILLED], timeout=60, check=False).returncode == 0
