# SPDX-License-Identifier: MIT
"""Guests that pyxc launches: their consoles, what they are asked, and what xl and xenconsoled see of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import ground_truth
import pytest
from builds import Launch, config_of, everything
from ground_truth import Peer

import pyxc
from pyxc import ShutdownReason
from pyxc.domain.console import Console

pytestmark = pytest.mark.needs_xen(4, 10)
SMALL = pytest.mark.parametrize("kind", ["pv", "pvh"])
PATIENCE_S = 60
LINUX_PATIENCE_S = 240
PROGRAM = {"pv": "mp", "pvh": "p"}
"""Both print a line; then comes what else they do."""


@SMALL
def test_a_console_without_any_daemon(xen: pyxc.Xen, kind: str) -> None:
    """From the first byte, and after the guest has ended."""
    image = Path(os.environ["PYXC_GUESTS"]) / kind
    guest = xen.domains.build(image, command_line=f"{PROGRAM[kind]}pq", memory_kb=16 << 10)
    try:
        with Console(guest, guest.console.place, way="ring") as console:
            guest.unpause()
            found = console.expect(rb"pyxc (\w+) guest: line 1\r\n", timeout=PATIENCE_S)
            assert found[1] == kind.upper().encode()
            assert guest.wait_shut_down(timeout=PATIENCE_S) is ShutdownReason.POWEROFF
            assert b"".join(console) == b"pyxc %s guest: line 2\r\n" % kind.upper().encode()
        assert guest.console.last().endswith(b"line 2\r\n")
    finally:
        guest.destroy()


@SMALL
def test_xl_and_xenconsoled_see_a_guest_of_their_kind(peer: Peer, launched: Launch, kind: str) -> None:
    guest = launched(kind, f"name=ours-{kind}", f"cmdline={PROGRAM[kind]}w")
    guest.unpause()
    peer.wait_for(f"ours-{kind}", "line 1")
    row = next(line for line in peer.xl("list").splitlines() if line.startswith(f"ours-{kind} "))
    assert row.split()[1:4] == [str(guest.domid), "16", "1"]
    assert f"ours-{kind}" in peer.xl("vcpu-list")
    peer.xl("pause", f"ours-{kind}")
    assert guest.info().paused
    peer.xl("unpause", f"ours-{kind}")
    peer.xl("rename", f"ours-{kind}", f"renamed-{kind}")
    assert guest.xen.domains[f"renamed-{kind}"] == guest
    assert guest.console.last().endswith(b"line 1\r\n")


@SMALL
def test_xl_destroys_it_without_a_trace(peer: Peer, launched: Launch, named: pyxc.Xen, kind: str) -> None:
    guest = launched(kind, f"name=theirs-{kind}", f"cmdline={PROGRAM[kind]}w")
    guest.unpause()
    peer.xl("destroy", f"theirs-{kind}")
    assert guest.wait(lambda info: False, timeout=PATIENCE_S) is None, "xl returns before Xen has freed it"
    for path in (f"/local/domain/{guest.domid}", f"/libxl/{guest.domid}", f"/vm/{guest.uuid}"):
        assert named.store.read(path) is None, path


def test_the_command_creates_and_destroys(
    peer: Peer, named: pyxc.Xen, pyxc_command: ground_truth.Command
) -> None:
    before = everything(named)
    pyxc_command("create", "-q", str(config_of("pvh")), "name=typed", "cmdline=pb")
    guest = named.domains["typed"]
    peer.wait_for("typed", "line 1")
    assert pyxc_command("console", "--last", "typed").stdout == "pyxc PVH guest: line 1\n"
    pyxc_command("destroy", "typed")
    assert not guest.exists()
    assert everything(named) == before


def test_linux_does_what_it_is_asked(peer: Peer, launched: Launch) -> None:
    guest = launched("linux", "name=asked", "vcpus=2", "type=pv")
    guest.unpause()
    guest.console.expect("guest is up", timeout=LINUX_PATIENCE_S)
    store, home = guest.xen.store, f"/local/domain/{guest.domid}"
    assert store.read(f"{home}/control/feature-poweroff") == b"1"
    guest.ask.set_memory(120 << 10, timeout=LINUX_PATIENCE_S)
    assert abs(guest.info().memory_kb - (120 << 10)) <= 1024
    guest.ask.set_vcpus(1)
    deadline = time.monotonic() + PATIENCE_S
    while guest.info().nr_online_vcpus != 1:
        assert time.monotonic() < deadline, "the second vcpu is still there"
        time.sleep(0.1)
    guest.ask.reboot(timeout=PATIENCE_S)
    assert guest.wait_shut_down(timeout=LINUX_PATIENCE_S) is ShutdownReason.REBOOT


def test_a_key_of_linux(peer: Peer, launched: Launch) -> None:
    guest = launched("linux", "name=pressed", "cmdline=console=hvc0 quiet sysrq_always_enabled")
    guest.unpause()
    guest.console.expect("guest is up", timeout=LINUX_PATIENCE_S)
    guest.ask.sysrq("o")
    assert guest.wait_shut_down(timeout=LINUX_PATIENCE_S) is ShutdownReason.POWEROFF
