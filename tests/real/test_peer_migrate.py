# SPDX-License-Identifier: MIT
"""Guests that migrate within this host: between pyxc and pyxc, pyxc and xl, and xl and pyxc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ground_truth import Peer

import pyxc
from pyxc.guest.handshake import BANNER, READY, REPORT

PIPES = Path("/run/pyxc-moved")
"""What both roots of this dom0 see."""
PATIENCE_S = 240
PYXC = (sys.executable, "-m", "pyxc")
NAME = "moved"


@pytest.fixture
def guest(peer: Peer) -> Iterator[str]:
    """The name of a Linux guest that has booted."""
    peer.create("linux", f'name="{NAME}"')
    peer.wait_for(NAME, "guest is up", PATIENCE_S)
    yield NAME
    if f"{NAME} " in peer.xl("list"):
        peer.xl("destroy", NAME)


@contextmanager
def pyxc_receiver() -> Iterator[str]:
    """A pyxc that waits for a guest at two named pipes; yields what connects xl's root with it."""
    PIPES.mkdir()
    there, back = PIPES / "there", PIPES / "back"
    os.mkfifo(there)
    os.mkfifo(back)
    words = f"exec {' '.join(PYXC)} migrate-receive < {there} > {back}"
    receiver = subprocess.Popen(words, shell=True, stderr=subprocess.PIPE, text=True)
    try:
        yield f"exec 3<&0; cat <&3 > {there} & exec cat {back}"
        _, complaints = receiver.communicate(timeout=PATIENCE_S)
        assert (receiver.returncode, complaints) == (0, "")
    finally:
        receiver.kill()
        receiver.wait()
        there.unlink()
        back.unlink()
        PIPES.rmdir()


def migrate(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def from_pyxc(name: str, receiver: str) -> str:
    return migrate(*PYXC, "migrate", "-s", "", "--remote", "", name, receiver)


def from_xl(peer: Peer, name: str, receiver: str) -> None:
    migrate("chroot", str(peer.root), "xl", "migrate", "-s", "", name, receiver)


def check_moved(xen: pyxc.Xen, peer: Peer, before: pyxc.Domain) -> pyxc.Domain:
    """Only one of the two is there, and it takes a request: its drivers and its timer work."""
    after = xen.domains[peer.domid(NAME)]
    assert after.domid != before.domid
    assert after.uuid == before.uuid
    assert before.domid not in xen.domains
    after.ask.suspend()
    after.resume(fast=True)
    return after


def test_a_guest_that_moves_from_one_to_the_other(named: pyxc.Xen, peer: Peer, guest: str) -> None:
    """It begins in a domain of xl, and ends in one of xl."""
    domain = named.domains[peer.domid(guest)]
    summary = from_pyxc(guest, f"{' '.join(PYXC)} migrate-receive")
    assert summary.startswith(f"{guest}: ")
    domain = check_moved(named, peer, domain)
    from_pyxc(guest, f"chroot {peer.root} xl migrate-receive")
    domain = check_moved(named, peer, domain)
    with pyxc_receiver() as receiver:
        from_xl(peer, guest, receiver)
    domain = check_moved(named, peer, domain)
    from_pyxc(guest, f"chroot {peer.root} xl migrate-receive")
    check_moved(named, peer, domain)


@pytest.mark.parametrize("after_bytes", [0, 100, 1 << 20])
def test_a_connection_that_is_cut(named: pyxc.Xen, peer: Peer, guest: str, after_bytes: int) -> None:
    """The guest goes on where it was, and nothing of the other side's remains."""
    domain, count = named.domains[peer.domid(guest)], len(named.domains)
    receiver = f"head -c {after_bytes} | {' '.join(PYXC)} migrate-receive"
    words = (*PYXC, "migrate", "-s", "", "--remote", "", guest, receiver)
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert "the other side" in done.stderr
    assert len(named.domains) == count
    assert peer.domid(guest) == domain.domid
    domain.ask.suspend()
    domain.resume(fast=True)


CUTTING = """
import os, subprocess, sys, threading

back_most, until, *words = sys.argv[1:]
there = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

def forth():
    passed = b""
    while data := os.read(0, 1 << 16):
        passed = passed[-64:] + data
        if until and until.encode() in passed:
            break
        while data:
            data = data[there.stdin.write(data):]
    there.stdin.close()

threading.Thread(target=forth).start()
left = int(back_most)
while left and (data := there.stdout.read(min(left, 1 << 16))):
    left -= len(data)
    os.write(1, data)
os.close(1)
there.wait()
"""
"""A connection with a command that carries so many bytes back, and what is before a text forth."""


def test_a_connection_that_is_cut_once_all_was_sent(
    named: pyxc.Xen, peer: Peer, guest: str, tmp_path: Path
) -> None:
    """Before READY, GRANT and REPORT have arrived: the guest runs here, is suspended here, or runs there."""
    domain, count, cutting = named.domains[peer.domid(guest)], len(named.domains), tmp_path / "cutting.py"
    cutting.write_text(CUTTING)

    def cut(back_most: int, until: str = "''") -> str:
        receiver = f"{sys.executable} {cutting} {back_most} {until} {' '.join(PYXC)} migrate-receive"
        words = (*PYXC, "migrate", "-s", "", "--remote", "", guest, receiver)
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 1
        return done.stderr

    def continues() -> None:
        assert len(named.domains) == count
        assert peer.domid(guest) == domain.domid
        domain.ask.suspend()
        domain.resume(fast=True)

    assert "the other side has ended" in cut(len(BANNER) + 5)
    continues()
    assert "check there" in cut(len(BANNER + READY + REPORT), "'domain is yours'")
    assert domain.info().shutdown_reason is pyxc.ShutdownReason.SUSPEND
    assert named.domains[f"{guest}--migratedaway"] == domain
    domain.set_name(guest)
    domain.resume(fast=True)
    continues()
    assert "check there" in cut(len(BANNER + READY))
    assert domain.info().shutdown_reason is pyxc.ShutdownReason.SUSPEND
    assert not named.domains[peer.domid(guest)].info().paused
    domain.destroy()
    check_moved(named, peer, domain)
