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
from pyxc.abi.arch.x86 import ContextFlag
from pyxc.abi.domctl import DomainFlag
from pyxc.debug import GdbSession
from pyxc.debug.gdb_packets import INTERRUPT, NACK, Packets, escaped, packet

TEXT = 0xFFFF_FFFF_8010_0000
UNWINDER = Path(__file__).parents[3] / "contrib/gdb/xen_hypercalls.py"


class Debugger:
    """A debugger's end of a session that runs in a thread."""

    def __init__(self, host: Host, name: str, writable: bool = False) -> None:
        self.end, other = socket.socketpair()
        self.end.settimeout(120)
        self._packets = Packets()
        self._got: list[bytes] = []
        self.failed: list[BaseException] = []

        def serve() -> None:
            with other:
                try:
                    GdbSession(host.xen.domains[name], writable=writable).serve(other)
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

    def register(self, number: int) -> int:
        digits = self.ask(b"g")[16 * number : 16 * number + 16]
        return int.from_bytes(bytes.fromhex(digits.decode()), "little")

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


@pytest.mark.parametrize("writable", [False, True])
def test_a_guest_that_crashes_while_it_runs(host: Host, writable: bool) -> None:
    db1 = host.xen.domains["db1"]
    gdb = Debugger(host, "db1", writable=writable)
    gdb.end.sendall(packet(b"c"))
    until(lambda: not db1.info().paused)
    db1.shutdown("crash")
    assert bytes.fromhex(gdb.reply()[1:].decode()) == b"the guest has shut down: crash\n"
    assert gdb.reply() == b"T05thread:1;"
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


class Gdb:
    """GDB itself, with a session on one domain."""

    def __init__(self, host: Host, name: str, writable: bool = False) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            connection, _ = self._listening.accept()
            with connection:
                GdbSession(host.xen.domains[name], writable=writable).serve(connection)

        self._thread = threading.Thread(target=serve)
        self._thread.start()

    def run(self, *commands: str) -> str:
        """What it says to some commands."""
        place = f"target remote 127.0.0.1:{self._listening.getsockname()[1]}"
        all_commands = ("set confirm off", "set pagination off", place, *commands)
        words = [word for command in all_commands for word in ("-ex", command)]
        done = subprocess.run(["gdb", "-nx", "-batch", *words], capture_output=True, text=True, timeout=120)
        self._thread.join(120)
        self._listening.close()
        return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_itself(boot: Boot) -> None:
    """Threads, registers of both widths, memory, a refused step, and a detach."""
    host = boot()
    for name, address in (("web1", "0xffffc90000001000"), ("db1", f"{TEXT:#x}")):
        domain = host.xen.domains[name]
        gdb = Gdb(host, name)
        said = gdb.run("info threads", "p/x $rip", "p/x $cs", f"x/2xg {address}", "stepi", "detach")
        assert f"{domain.vcpu(0).context()['rip']:#x}" in said, said
        assert f"vcpu {len(domain.vcpus) - 1}" in said, said
        with domain.memory.virtual() as space:
            assert f"0x{space.u64(int(address, 16)):016x}" in said, said
        assert "--writable" in said, said
        assert not domain.info().paused


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
@pytest.mark.parametrize(
    ("code", "rest", "pushed"),
    [(b"\x0f\x05", b"\x41\x5b\x59\xc3", 16), (b"\x0f\x01\xc1", b"\xc3", 0), (b"\x0f\x01\xd9", b"\xc3", 0)],
)
def test_gdb_finds_the_caller_of_a_hypercall(boot: Boot, code: bytes, rest: bytes, pushed: int) -> None:
    host = boot()
    db1 = host.xen.domains["db1"]
    caller, stack = TEXT + 0x900, TEXT + 0x1000
    with db1.memory.virtual(writable=True) as space:
        space.write(TEXT + 0x800, code + rest)
        space.write(stack + pushed, caller.to_bytes(8, "little"))
    context = db1.vcpu(0).context()
    db1.vcpu(0).set_context(context.replace(rip=TEXT + 0x800 + len(code), rsp=stack))
    said = Gdb(host, "db1").run(f"source {UNWINDER}", "backtrace", "up", "p/x $rsp", "detach")
    assert f"#1  {caller:#x} in" in said, said
    assert f"$1 = {stack + pushed + 8:#x}" in said, said


RIP = 16
SWBREAK = b"qSupported:swbreak+"


def is_as_before(host: Host, name: str, text: bytes, address: int) -> bool:
    """Running, without a debugger, and with its own code."""
    domain = host.xen.domains[name]
    info = domain.info()
    with domain.memory.virtual() as space:
        code = space.read(address, len(text))
    held = [vcpu.held for vcpu in host.truth.domains[domain.domid].live_vcpus]
    return (info.paused, DomainFlag.DEBUGGED in info.flags, any(held), code) == (False, False, False, text)


def test_a_breakpoint_and_a_step(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    start = db1.vcpu(0).context()["rip"]
    gdb = Debugger(host, "db1", writable=True)
    assert b"swbreak+" in gdb.ask(SWBREAK)
    assert gdb.ask(b"vCont?") == b"vCont;c;C;s;S"
    assert gdb.ask(b"Z0,%x,1" % (start + 5)) == b"OK"
    assert gdb.ask(b"m%x,2" % (start + 5)) == b"0000"
    assert db1.memory.virtual(0).u8(start + 5) == 0xCC
    assert gdb.ask(b"M%x,1:00" % (start + 5)).startswith(b"E.there is a breakpoint")
    for _ in range(2):  # the loop comes back to it
        assert gdb.ask(b"vCont;c") == b"T05swbreak:;thread:1;"
        assert gdb.register(RIP) == start + 5
        assert gdb.ask(b"z0,%x,1" % (start + 5)) == b"OK"
        assert gdb.ask(b"vCont;s:1") == b"T05thread:1;"
        assert gdb.register(RIP) == start + 6
        assert not db1.vcpu(0).context()["rflags"] & 0x100
        assert gdb.ask(b"Z0,%x,1" % (start + 5)) == b"OK"
    gdb.leave()
    assert is_as_before(host, "db1", bytes(16), start)


def test_a_trap_flag_that_an_interrupt_brings_back(host: Host) -> None:
    """If it comes before a step ends, it returns to the flags of the step: that is not a reason to stop."""
    db1 = host.xen.domains["db1"]
    start = db1.vcpu(0).context()["rip"]
    gdb = Debugger(host, "db1", writable=True)
    gdb.ask(SWBREAK)
    assert gdb.ask(b"vCont;s:1") == b"T05thread:1;"
    context = db1.vcpu(0).context()
    db1.vcpu(0).set_context(context.replace(rflags=context["rflags"] | 0x100))
    assert gdb.ask(b"Z0,%x,1" % (start + 5)) == b"OK"
    assert gdb.ask(b"vCont;c") == b"T05swbreak:;thread:1;"
    assert gdb.register(RIP) == start + 5
    assert not db1.vcpu(0).context()["rflags"] & 0x100
    gdb.leave()


def test_a_processor_that_stops_by_itself(host: Host) -> None:
    host.truth.monitor_trap = True
    gdb = Debugger(host, "db1", writable=True)
    start = gdb.register(RIP)
    assert (gdb.ask(b"s"), gdb.register(RIP)) == (b"T05thread:1;", start + 1)
    gdb.leave()
    assert is_as_before(host, "db1", bytes(16), start)
    assert not host.truth.domains[2].live_vcpus[0].stepped


P2M_TEXT = 0xFFFF_C900_0000_1000


def test_two_vcpus_at_one_breakpoint(host: Host) -> None:
    """Of the other one GDB hears nothing, and it must not go on behind the int3."""
    web1 = host.xen.domains["web1"]
    with web1.memory.virtual() as space:
        text = space.read(P2M_TEXT, 64)
    at = P2M_TEXT + text.index(0)
    gdb = Debugger(host, "web1", writable=True)
    gdb.ask(SWBREAK)
    for thread in (b"1", b"2"):
        assert gdb.ask(b"Hg" + thread) == b"OK"
        assert gdb.ask(b"P10=" + P2M_TEXT.to_bytes(8, "little").hex().encode()) == b"OK"
    assert gdb.ask(b"Z0,%x,1" % at) == b"OK"
    assert gdb.ask(b"c") == b"T05swbreak:;thread:1;"
    assert [vcpu.context()["rip"] for vcpu in web1.vcpus] == [at, at]
    assert gdb.ask(b"vCont;s:2") == b"T05swbreak:;thread:2;"
    assert gdb.ask(b"z0,%x,1" % at) == b"OK"
    assert gdb.ask(b"vCont;s:2;c") == b"T05thread:2;"
    assert [vcpu.context()["rip"] for vcpu in web1.vcpus] == [at, at + 1]
    gdb.leave()
    assert is_as_before(host, "web1", text, P2M_TEXT)


@pytest.mark.parametrize("ending", ["running", "stopped"])
def test_a_debugger_that_disappears_leaves_no_breakpoint(host: Host, ending: str) -> None:
    db1 = host.xen.domains["db1"]
    start = db1.vcpu(0).context()["rip"]
    gdb = Debugger(host, "db1", writable=True)
    elsewhere = start + 0x1000
    assert gdb.ask(b"Z0,%x,1" % elsewhere) == b"OK"
    if ending == "running":
        gdb.end.sendall(packet(b"c"))
        until(lambda: not db1.info().paused)
    gdb.leave()
    assert is_as_before(host, "db1", bytes(16), elsewhere)


def test_an_int3_of_the_guest(host: Host) -> None:
    """Linux has them for a moment; one that stays stops the guest there, as it is."""
    db1 = host.xen.domains["db1"]
    start = db1.vcpu(0).context()["rip"]
    with db1.memory.virtual(0, writable=True) as space:
        space.write(start + 3, b"\xcc")
    gdb = Debugger(host, "db1", writable=True)
    assert gdb.ask(b"Z0,%x,1" % (start + 3)).startswith(b"E.the guest itself")
    assert f"int3 of the guest's own, {start + 3:#x}" in bytes.fromhex(gdb.ask(b"c")[1:].decode()).decode()
    assert gdb.reply() == b"T05thread:1;"
    assert gdb.register(RIP) == start + 3
    gdb.leave()
    assert db1.vcpu(0).context()["rip"] == start + 3


def test_what_a_debugger_writes(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    gdb = Debugger(host, "db1", writable=True)
    assert gdb.ask(b"M%x,3:646232" % TEXT) == b"OK"
    assert gdb.ask(b"X%x,2:" % (TEXT + 3) + escaped(b"}#")) == b"OK"
    assert db1.memory.virtual(0).read(TEXT, 5) == b"db2}#"
    assert gdb.ask(b"P0=0700000000000000") == b"OK"
    assert db1.vcpu(0).context()["rax"] == 7
    for refused in (
        b"P0=07", b"P12=00000000", b"P1000=00", b"M%x,2:00" % TEXT, b"M%x,1:0" % TEXT, b"Z2,%x,8" % TEXT,
        b"Z0,1000,1", b"vCont;t:1", b"vCont;s:9", b"G00",
    ):  # fmt: skip
        assert gdb.ask(refused)[:1] == b"E", refused
    gdb.leave()


def test_where_xen_leaves_breakpoints_to_the_guest(host: Host) -> None:
    gdb, web1 = Debugger(host, "web1", writable=True), host.xen.domains["web1"]
    assert gdb.ask(b"Z0,400000,1") == b"E.Xen stops a PV guest at breakpoints in its kernel only"
    context = web1.vcpu(0).context()
    web1.vcpu(0).set_context(context.replace(flags=context["flags"] & ~ContextFlag.IN_KERNEL))
    assert b"in its kernel only" in bytes.fromhex(gdb.ask(b"s")[1:].decode())
    assert gdb.reply() == b"T05thread:1;"
    gdb.leave()


@pytest.mark.parametrize(("release", "why"), [("4.4", b"need Xen 4.5"), ("4.17", b"without CONFIG_GDBSX")])
def test_a_xen_without_breakpoints(boot: Boot, release: str, why: bytes) -> None:
    """It would swallow an int3; memory and registers can be written nevertheless."""
    host = boot(release)
    host.truth.gdbsx = False
    web1, build = host.xen.domains["web1"], host.xen.domains["build"]
    gdb = Debugger(host, "web1", writable=True)
    refused = gdb.ask(b"Z0,%x,1" % P2M_TEXT)
    assert refused[:2] == b"E." and why in refused
    assert why in bytes.fromhex(gdb.ask(b"s")[1:].decode())
    assert gdb.reply() == b"T05thread:1;"
    assert gdb.ask(b"P0=0700000000000000") == b"OK"
    gdb.end.sendall(packet(b"c"))
    until(lambda: not web1.info().paused)
    gdb.end.sendall(INTERRUPT)
    assert gdb.reply() == b"T02thread:1;"
    assert web1.vcpu(0).context()["rax"] == 7
    gdb.leave()
    assert not web1.info().paused
    gdb = Debugger(host, "build", writable=True)
    assert b"pyxc unpause" in bytes.fromhex(gdb.ask(b"c")[1:].decode())
    gdb.leave()
    assert build.info().paused


def test_after_a_debugger_that_was_killed(host: Host) -> None:
    """Its successor lets go what it held."""
    web1 = host.truth.domains[1]
    web1.debugged, web1.vcpus[1].held = True, 2
    gdb = Debugger(host, "web1", writable=True)
    assert gdb.ask(b"?") == b"T05thread:1;"
    gdb.leave()
    assert is_as_before(host, "web1", b"", P2M_TEXT)


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_stops_at_a_breakpoint(boot: Boot) -> None:
    host = boot()
    db1 = host.xen.domains["db1"]
    start = db1.vcpu(0).context()["rip"]
    gdb = Gdb(host, "db1", writable=True)
    said = gdb.run(
        f"break *{start + 9:#x}", "continue", "p/x $rip", "stepi", "p/x $rip", "continue", "set $rax = 0x77",
        "p/x $rax", f"set var *(char *) {TEXT:#x} = 'D'", f"x/s {TEXT:#x}", "detach",
    )  # fmt: skip
    assert said.count("Breakpoint 1, ") == 2, said
    assert f"= {start + 9:#x}" in said and f"= {start + 10:#x}" in said, said
    assert "= 0x77" in said and "Db1: simulated" in said, said
    assert is_as_before(host, "db1", bytes(16), start)
    assert db1.vcpu(0).context()["rax"] == 0x77


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
