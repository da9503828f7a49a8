# SPDX-License-Identifier: MIT
"""Guests that xl saves: what pyxc reads of them, and what xl makes of what pyxc writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from builds import require
from ground_truth import Command, Peer

import pyxc
from pyxc.guest import stream

PVH_HEARTBEAT = 0x102
SPOOL = Path("/run/pyxc-saved")
"""What both roots of this dom0 see."""
TOOLS = "usr/lib/xen-4.17"
PATIENCE_S = 60
BOOT_PATIENCE_S = 240
FEW_PAGES = 60
CONFIGS = {
    "pv": ("pv", 'cmdline="mfpspw"'),
    "pv32": ("pv", 'kernel="/guests/pv32"', 'cmdline="mfpspw"'),
    "pvh": ("pvh", 'cmdline="pw"'),
    "linux": ("linux",),
}
"""Of each kind a configuration, and settings."""
KINDS = {"saved-pvh": "PVH", "saved-pv32": "32-bit PV"}
PV = ("saved-pv", "saved-pv32")
"""They suspend themselves, and then print again."""


@pytest.fixture
def spool() -> Iterator[Path]:
    SPOOL.mkdir()
    yield SPOOL
    for file in SPOOL.iterdir():
        file.unlink()
    SPOOL.rmdir()


@pytest.fixture
def name(xen: pyxc.Xen, peer: Peer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A guest of a kind, ready to be saved under that name: the small ones know nothing of xenstore."""
    kind: str = request.param
    require(xen, kind)
    name = f"saved-{kind}"
    config, *settings = CONFIGS[kind]
    peer.create(config, f'name="{name}"', *settings)
    peer.wait_for(name, "guest is up" if kind == "linux" else "line 1", BOOT_PATIENCE_S)
    yield name
    if f"{name} " in peer.xl("list"):
        peer.xl("destroy", name)


EACH = pytest.mark.parametrize("name", [*CONFIGS], indirect=True)
SMALL = pytest.mark.parametrize("name", ["pv", "pv32", "pvh"], indirect=True)


def save(xen: pyxc.Xen, peer: Peer, name: str, path: Path) -> None:
    """Have xl save a guest. For a small guest, which does not read it, its request is taken away."""
    domain = xen.domains[peer.domid(name)]
    if name == "saved-pvh":
        domain.shutdown(pyxc.ShutdownReason.SUSPEND)
    request = f"/local/domain/{domain.domid}/control/shutdown"
    with subprocess.Popen(
        ["chroot", peer.root, "xl", "save", name, path], stderr=subprocess.PIPE, text=True
    ) as saving:
        deadline = time.monotonic() + PATIENCE_S
        while name != "saved-linux" and peer.read_store(request) != "suspend":
            assert time.monotonic() < deadline
        if name != "saved-linux":
            peer.run("xenstore-write", request, "")
        _, complaints = saving.communicate(timeout=PATIENCE_S)
    assert saving.returncode == 0, complaints


def read(path: Path) -> Iterator[stream.Event]:
    reader = stream.Reader(strict=True)
    with path.open("rb") as file:
        while not reader.finished and (data := file.read(1 << 18)):
            yield from reader.feed(data)
        reader.close()
        assert (reader.unused, file.read(1)) == (b"", b"")


def write(path: Path, events: Iterable[stream.Event]) -> None:
    writer = stream.Writer()
    with path.open("wb") as file:
        for event in events:
            file.writelines(writer.encode(event))
    assert writer.finished


def verified_by_xen(peer: Peer, path: Path) -> str:
    """What Xen's own checker says of a file that it accepts."""
    top = peer.root / TOOLS
    words = [sys.executable, "-B", top / "bin/verify-stream-v2", "-v", "-f", "xl", "-i", path]
    environment = {**os.environ, "PYTHONPATH": str(top / "lib/python")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@EACH
def test_what_xl_saved(xen: pyxc.Xen, peer: Peer, name: str, spool: Path, pyxc_command: Command) -> None:
    file, again = spool / "file", spool / "again"
    save(xen, peer, name, file)
    kind = KINDS.get(name, "64-bit PV")
    told = pyxc_command("stream", "verify", str(file)).stdout
    assert told.startswith(f"{file}: good: {kind} guest of Xen 4.17, vcpus 1, ")
    assert f'"name": "{name}"' in pyxc_command("stream", "inspect", str(file)).stdout
    write(again, read(file))
    assert subprocess.run(["cmp", file, again]).returncode == 0
    assert verified_by_xen(peer, again) == verified_by_xen(peer, file)


def in_other_batches(events: Iterable[stream.Event]) -> Iterator[stream.Event]:
    """The same guest, its pages a few at a time and without those that do not exist."""
    for event in events:
        if isinstance(event, stream.Pages):
            for at in range(0, len(event.pfns), FEW_PAGES):
                part = slice(at, at + FEW_PAGES)
                yield stream.PageData(event.pfns[part], event.types[part])
                data = event.data[4096 * at : 4096 * (at + FEW_PAGES)]
                yield stream.Pages(event.pfns[part], event.types[part], data)
        elif not isinstance(event, stream.PageData):
            yield event


@SMALL
def test_xl_restores_what_pyxc_writes(xen: pyxc.Xen, peer: Peer, name: str, spool: Path) -> None:
    """Not the bytes that xl wrote; the guest goes on where it was."""
    file, other = spool / "file", spool / "other"
    save(xen, peer, name, file)
    write(other, in_other_batches(read(file)))
    assert other.stat().st_size != file.stat().st_size
    assert "Libxl Record: End, length 0" in verified_by_xen(peer, other)
    peer.xl("restore", str(other))
    if name in PV:
        peer.wait_for(name, "line 2")
        return
    wait_for_a_beat(xen.domains[peer.domid(name)])


def wait_for_a_beat(domain: pyxc.Domain) -> None:
    beat = domain.memory.read(PVH_HEARTBEAT, size=8)
    deadline = time.monotonic() + PATIENCE_S
    while domain.memory.read(PVH_HEARTBEAT, size=8) == beat:
        assert time.monotonic() < deadline


def wait_until_it_runs(peer: Peer, domain: pyxc.Domain, name: str) -> None:
    """Until a restored guest does something that it could not do before."""
    if name == "saved-pvh":
        wait_for_a_beat(domain)
    elif name in PV:
        peer.wait_for(name, "line 2")
    else:
        # Its drivers work again: it takes a request, and suspends and continues. Linux writes its
        # control/feature-* only when it boots, so these nodes of a restored domain remain empty.
        domain.ask.suspend()
        domain.resume(fast=True)


@EACH
def test_pyxc_restores_what_xl_saved(named: pyxc.Xen, peer: Peer, name: str, spool: Path) -> None:
    file = spool / "file"
    save(named, peer, name, file)
    restored = named.restore(file)
    try:
        assert restored.name == name
        assert f"{name} " in peer.xl("list")
        wait_until_it_runs(peer, restored, name)
    finally:
        restored.destroy()


@EACH
@pytest.mark.parametrize("live", [False, True])
def test_xl_restores_what_pyxc_saved(named: pyxc.Xen, peer: Peer, name: str, spool: Path, live: bool) -> None:
    file = spool / "file"
    domain = named.domains[peer.domid(name)]
    suspend = "force" if name == "saved-pvh" else "ask"
    if name in PV:
        wait_for_its_suspend(domain)
    domain.save(file, suspend=suspend, live=live, provenance="none")
    assert "Libxl Record: End, length 0" in verified_by_xen(peer, file)
    peer.xl("destroy", name)
    peer.xl("restore", str(file))
    again = named.domains[peer.domid(name)]
    assert again.uuid == domain.uuid
    wait_until_it_runs(peer, again, name)


def test_a_vcpu_that_was_taken_away_stays_away(named: pyxc.Xen, peer: Peer, spool: Path) -> None:
    """From xl to pyxc and back."""
    name, file, again = "saved-pvh", spool / "file", spool / "again"
    peer.create("pvh", f'name="{name}"', 'cmdline="pw"', "vcpus=2")
    try:
        peer.wait_for(name, "line 1")
        peer.xl("vcpu-set", name, "1")
        save(named, peer, name, file)
        restored = named.restore(file)
        assert offered(restored) == ["online", "offline"]
        restored.save(again, suspend="force", provenance="none")
        restored.destroy()
        peer.xl("restore", str(again))
        assert offered(named.domains[peer.domid(name)]) == ["online", "offline"]
    finally:
        if name in named.domains:
            named.domains[name].destroy()


def offered(domain: pyxc.Domain) -> list[str]:
    """The vcpus that its toolstack lets it use."""
    paths = (f"/local/domain/{domain.domid}/cpu/{index}/availability" for index in range(2))
    return [value.decode() for value in domain.xen.store.read_many(paths) if isinstance(value, bytes)]


def wait_for_its_suspend(domain: pyxc.Domain) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while domain.info().shutdown_reason is not pyxc.ShutdownReason.SUSPEND:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["linux"], indirect=True)
def test_a_linux_guest_goes_back_and_forth(named: pyxc.Xen, peer: Peer, name: str, spool: Path) -> None:
    """Between domains of pyxc and of xl, each time in another one."""
    domain = named.domains[peer.domid(name)]
    registers = {}
    for turn in range(2):
        file = spool / f"file{turn}"
        domain.save(file, live=True, provenance="none")
        domain.destroy()
        restored = named.restore(file)
        wait_until_it_runs(peer, restored, name)
        registers[turn] = restored.guest_bits()
        domain = restored
    assert registers == {0: 64, 1: 64}
    domain.destroy()
