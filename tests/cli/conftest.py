# SPDX-License-Identifier: MIT
"""Runs the command in this process, on simulated hosts."""

from __future__ import annotations

import json
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pyxc as library
from pyxc import opening, sim
from pyxc.cli import main
from pyxc.files import labels
from pyxc.files.provenance import DomainOrigin, XenOrigin
from pyxc.files.writer import ProvenanceFile


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Pyxc = Callable[..., Outcome]


@pytest.fixture
def pyxc(capsys: pytest.CaptureFixture[str]) -> Pyxc:
    """The command, run as pyxc("list", "web1"); answers status, output and errors."""

    def run(*words: str) -> Outcome:
        status = main(words)
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> sim.Hypervisor:
    """One simulated Xen 4.17 that all runs of the command in a test share, as a real host would be."""
    return _shared(monkeypatch, "sim:xen-4.17")


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> sim.Hypervisor:
    """The same, with a security policy and performance counters."""
    return _shared(monkeypatch, "sim:xen-4.17-xsm")


def _shared(monkeypatch: pytest.MonkeyPatch, name: str) -> sim.Hypervisor:
    hypervisor = sim.Hypervisor(sim.named(name))
    monkeypatch.setattr(opening, "open_link", lambda target, gate="auto": hypervisor.connect(name))
    return hypervisor


@pytest.fixture
def policy(tmp_path: Path) -> str:
    """The name of a file that a simulated hypervisor takes for a security policy."""
    path = tmp_path / "policy"
    path.write_bytes((0xF97CFF8C).to_bytes(4, "little") + bytes(100))
    return str(path)


@pytest.fixture
def guest_config(tmp_path: Path) -> str:
    """The name of a file that configures a guest, shop."""
    (tmp_path / "kernel").write_bytes(sim.kernel("pvh"))
    path = tmp_path / "shop.cfg"
    path.write_text(f"name = 'shop'\nmemory = 16\nkernel = '{tmp_path}/kernel'\n")
    return str(path)


@pytest.fixture
def core(image: Path) -> str:
    """The name of a file that pyxc wrote; it has a label, too."""
    domain = DomainOrigin(1, "6f1c3a52-9d0b-4a1e-8c55-0d7a1f0e2b01", "web1")
    with ProvenanceFile(image, "core", domain=domain, xen=XenOrigin("4.17")) as file:
        file.stream.write(b"what was dumped")
    labels.put(image, "tenant1:vm_r:web_t:s0")
    return str(image)


# A host without guests, to which one is migrated. Its arguments follow the name of the command.
RECEIVER = """
import sys
from pyxc import opening, sim
from pyxc.cli import main

hypervisor = sim.Hypervisor(sim.named("sim:xen-4.17"), with_guests=False)
opening.open_link = lambda target, gate="auto": hypervisor.connect("sim:xen-4.17")
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def receiver() -> str:
    """The command of another host, to which `pyxc migrate-receive` is added."""
    return shlex.join([sys.executable, "-c", RECEIVER])


@pytest.fixture
def incoming(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A guest, db2, that another host migrates to whoever uses the standard input and output."""
    near, far = socket.socketpair()
    there = library.connect(sim.Hypervisor(sim.named("sim:xen-4.17")).connect())
    there.domains["db1"].set_name("db2")
    guest = there.domains["db2"]
    sender = threading.Thread(target=lambda: guest.migrate(near, suspend="force", timeout=20))
    sender.start()
    monkeypatch.setattr("pyxc.cli.commands.move.standard_ends", lambda: (far.fileno(), far.fileno()))
    with near, far:
        yield
        sender.join()
