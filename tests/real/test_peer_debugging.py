# SPDX-License-Identifier: MIT
"""Memory of running guests by address, beside what they print of themselves and what Xen's tools say."""

from __future__ import annotations

import re
import time

import pytest
from builds import PATTERN, PATTERN_AT
from ground_truth import CONSOLES, Guests, Peer
from rsp import RemoteDebugger

import pyxc
from pyxc import NotMapped, Unsupported
from pyxc.abi import domctl_debug
from pyxc.abi.domctl import DomainFlag
from pyxc.debug import DomainMemory, GdbSession

BASE = {"pv": 0xFFFF_FFFF_8000_0000, "pvh": 0}
"""Where the small guests map their memory."""
SYMBOL = re.compile(r"^([0-9a-f]{16}) \w (\w+)\r?$", re.MULTILINE)


@pytest.fixture(scope="module")
def said(guests: Guests) -> str:
    """What Linux printed."""
    return (CONSOLES / "guest-linux.log").read_text(errors="replace")


def test_an_address_of_linux_is_where_linux_says(xen: pyxc.Xen, guests: Guests, said: str) -> None:
    linux = xen.domains[guests.domids["linux"]]
    addresses = {name: int(address, 16) for address, name in SYMBOL.findall(said)}
    version = re.search(r"^(Linux version [^\r\n]*)", said, re.MULTILINE)
    assert version
    with linux.memory.virtual(linux.vcpu(0)) as space:
        banner = space.c_string(addresses["linux_banner"]).decode().strip()
        assert " ".join(banner.split()) == " ".join(version[1].split())
        found = linux.vcpu(0).translate(addresses["_stext"])
        assert found.frame in linux.memory.frames()
        code = space.read(addresses["_stext"], 64)
        assert code == linux.memory.read(found.frame, found.address % 4096, 64) != bytes(64)
        with pytest.raises(NotMapped):
            space.u8(0x1000)


def test_linux_describes_itself(xen: pyxc.Xen, guests: Guests, said: str) -> None:
    addresses = {name: int(address, 16) for address, name in SYMBOL.findall(said)}
    with DomainMemory(xen.domains[guests.domids["linux"]]) as memory:
        lines = dict(line.split("=", 1) for line in memory.vmcoreinfo().decode().splitlines())
    assert int(lines["SYMBOL(_stext)"], 16) == addresses["_stext"]
    assert f"Linux version {lines['OSRELEASE']} " in said


@pytest.mark.parametrize("name", ["pv", "pvh"])
def test_small_guests(xen: pyxc.Xen, guests: Guests, name: str) -> None:
    domain = xen.domains[guests.domids[name]]
    with domain.memory.virtual() as virtual, domain.memory.physical as physical:
        address = PATTERN_AT[name] << 12
        assert virtual.read(BASE[name] + address, 4096) == physical.read(address, 4096) == PATTERN


@pytest.mark.parametrize("name", ["pv", "linux"])
def test_registers_as_a_debugger_sees_them(xen: pyxc.Xen, guests: Guests, peer: Peer, name: str) -> None:
    domid = guests.domids[name]
    registers = GdbSession(xen.domains[domid]).reply(b"g")
    assert registers is not None
    rip = int.from_bytes(bytes.fromhex(registers[256:272].decode()), "little")
    assert rip == peer.registers(domid)["rip"]


def has_gdbsx(domain: pyxc.Domain) -> bool:
    try:
        domain.change(domctl_debug.GDBSX_DOMSTATUS)
    except Unsupported:
        return False
    return True


def stop_and_step(gdb: RemoteDebugger, address: int, code: bytes) -> None:
    """Three times at a breakpoint, and three steps from there each time; in the end it is set."""
    for _ in range(3):
        assert gdb.ask(b"Z0,%x,1" % address) == b"OK"
        stopped = gdb.ask(b"vCont;c")
        assert stopped.startswith(b"T05swbreak:;thread:"), stopped
        thread = stopped[len(b"T05swbreak:;thread:") : -1]
        assert gdb.ask(b"Hg" + thread) == b"OK"
        assert gdb.rip() == address
        assert gdb.ask(b"m%x,10" % address) == code.hex().encode()
        assert gdb.ask(b"z0,%x,1" % address) == b"OK"
        for _ in range(3):
            before = gdb.rip()
            assert gdb.ask(b"vCont;s:" + thread) == b"T05thread:" + thread + b";"
            assert gdb.rip() != before
    assert gdb.ask(b"Z0,%x,1" % address) == b"OK"


@pytest.mark.usefixtures("unguarded")
@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_breakpoints_and_steps_in_linux(xen: pyxc.Xen, peer: Peer, kind: str) -> None:
    """Where its idle loop switches to a process; the guest is none the worse for it.

    An HVM guest steps only: QEMU, which emulates an AMD processor, does not stop at the int3 of such a guest.
    """
    name = f"debugged-{kind}"
    peer.create("linux", f'name="{name}"', f'type="{kind}"', "vcpus=2")
    peer.wait_for(name, "guest is up", 300)
    said = (CONSOLES / f"guest-{name}.log").read_text(errors="replace")
    address = next(int(at, 16) for at, symbol in SYMBOL.findall(said) if symbol == "schedule_idle")
    linux = xen.domains[peer.domid(name)]
    with linux.memory.virtual(linux.vcpu(0)) as space:
        code = space.read(address, 16)
    with RemoteDebugger(linux) as gdb:
        assert b"swbreak+" in gdb.ask(b"qSupported:swbreak+")
        if not has_gdbsx(linux):
            assert b"CONFIG_GDBSX" in gdb.ask(b"Z0,%x,1" % address)
        elif kind == "pv":
            stop_and_step(gdb, address, code)
        else:
            assert [gdb.ask(b"vCont;s:1") for _ in range(3)] == [b"T05thread:1;"] * 3
    info = linux.info()
    assert not info.paused
    assert DomainFlag.DEBUGGED not in info.flags
    with linux.memory.virtual(linux.vcpu(0)) as space:
        assert space.read(address, 16) == code
    before, seen = linux.info().cpu_time_ns, time.monotonic()
    while linux.info().cpu_time_ns == before:
        assert time.monotonic() < seen + 60, "it does not run any more"
        time.sleep(0.5)
    assert not linux.info().shut_down
    linux.destroy()
