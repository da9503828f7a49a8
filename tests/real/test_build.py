# SPDX-License-Identifier: MIT
"""Guests that pyxc builds: they boot, print, and end, with nothing of Xen's own tools in dom0."""

from __future__ import annotations

import os
import struct
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ground_truth import Peer

import pyxc
from pyxc import PageType, ShutdownReason
from pyxc.abi.domctl import PAGE_PINNED
from pyxc.guest.built import BuiltDomain

pytestmark = pytest.mark.needs_xen(4, 10)
PATTERN = array("Q", (0x7079786300000000 + index for index in range(512))).tobytes()
PATTERN_AT = {"pv": 1, "pvh": 0x101}
"""Where the small guests have it: in pages of their address space."""
PATIENCE_S = 60
LINUX_PATIENCE_S = 240

Build = Callable[..., BuiltDomain]


@pytest.fixture
def build(xen: pyxc.Xen) -> Iterator[Build]:
    """Builds one of the lab's small guests; whatever was built is destroyed, and leaves nothing."""
    before, free, made = xen.domains.infos(), xen.physinfo().free_memory_kb, []

    def built(name: str, command_line: str, **options: object) -> BuiltDomain:
        image = Path(os.environ["PYXC_GUESTS"]) / name
        made.append(xen.domains.build(image, command_line=command_line, **options))
        return made[-1]

    yield built
    for domain in made:
        domain.destroy()
    assert [info.domid for info in xen.domains.infos()] == [info.domid for info in before]
    deadline = time.monotonic() + PATIENCE_S
    while xen.physinfo().free_memory_kb < free - 1024:
        assert time.monotonic() < deadline, "memory of the guests is not free again"
        time.sleep(0.1)


def wait_for_the_end(domain: pyxc.Domain) -> ShutdownReason | int | None:
    deadline = time.monotonic() + PATIENCE_S
    while (reason := domain.info().shutdown_reason) is None:
        assert time.monotonic() < deadline, f"the guest did not end in {PATIENCE_S} s"
        time.sleep(0.01)
    return reason


def printed(domain: BuiltDomain) -> bytes:
    """What it has put into its console's ring."""
    ring = domain.memory.read(domain.console_frame)
    (produced,) = struct.unpack_from("<I", ring, 3084)
    return ring[1024 : 1024 + produced]


def wait_for_text(domain: BuiltDomain, text: bytes, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while text not in printed(domain):
        reason = domain.info().shutdown_reason
        assert reason is None and time.monotonic() < deadline, (reason, printed(domain))
        time.sleep(0.1)


def test_a_pvh_guest_boots_prints_and_ends(build: Build) -> None:
    guest = build("pvh", "ppq", memory_kb=16 << 10)
    assert guest.kind == "pvh"
    assert guest.info().paused
    assert printed(guest) == b""
    assert guest.memory.read(PATTERN_AT["pvh"]) == PATTERN
    guest.unpause()
    assert wait_for_the_end(guest) is ShutdownReason.POWEROFF
    assert printed(guest) == b"pyxc PVH guest: line 1\r\npyxc PVH guest: line 2\r\n"


def test_a_pv_guest_boots_prints_and_ends(build: Build) -> None:
    guest = build("pv", "pmpq", memory_kb=16 << 10)
    assert guest.kind == "pv"
    assert printed(guest) == b""
    guest.unpause()
    assert wait_for_the_end(guest) is ShutdownReason.POWEROFF
    assert printed(guest) == b"pyxc PV guest: line 1\r\npyxc PV guest: line 2\r\n"
    p2m = guest.memory.p2m()
    assert len(p2m.entries) == guest.info().tot_pages == 4096
    assert guest.memory.read(p2m.entries[PATTERN_AT["pv"]]) == PATTERN


def test_page_tables_of_a_pv_guest_are_what_xen_makes_of_them(build: Build) -> None:
    guest = build("pv", "mpb", memory_kb=8 << 10)
    guest.unpause()
    wait_for_text(guest, b"line 1", PATIENCE_S)
    guest.pause()
    root = guest.vcpu(0).context()["cr3"] >> 12
    found = guest.memory.frames(types=True)
    types = dict(zip(found.frames, found.types))
    assert types[root] == (PageType.L4TAB | PAGE_PINNED) >> 28
    assert sorted(kind & 7 for kind in types.values() if kind) == [1, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_linux(xen: pyxc.Xen, build: Build, peer: Peer, kind: str) -> None:
    """Debian's kernel with a ramdisk, until a program of the ramdisk prints. It waits for xenstored."""
    ramdisk = Path(os.environ["PYXC_GUESTS"]) / "initrd"
    guest = build("vmlinuz", "console=hvc0 quiet", ramdisk=ramdisk, memory_kb=160 << 10, kind=kind, vcpus=2)
    home = f"/local/domain/{guest.domid}"
    xen.store.write(home, "")
    xen.store.set_permissions(home, [f"n{guest.domid}"])
    xen.store.introduce(guest.domid, guest.store_frame, guest.store_port)
    guest.unpause()
    wait_for_text(guest, b"guest is up", LINUX_PATIENCE_S)
    assert guest.info().nr_online_vcpus == 2
    xen.store.remove(home)
