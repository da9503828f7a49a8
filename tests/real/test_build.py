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

import pyxc
from pyxc import ShutdownReason
from pyxc.guest.built import BuiltDomain

pytestmark = pytest.mark.needs_xen(4, 10)
PATTERN = array("Q", (0x7079786300000000 + index for index in range(512))).tobytes()
PVH_PATTERN = 0x101
PATIENCE_S = 60

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


def test_a_pvh_guest_boots_prints_and_ends(build: Build) -> None:
    guest = build("pvh", "ppq", memory_kb=16 << 10)
    assert guest.kind == "pvh"
    assert guest.info().paused
    assert printed(guest) == b""
    assert guest.memory.read(PVH_PATTERN) == PATTERN
    guest.unpause()
    assert wait_for_the_end(guest) is ShutdownReason.POWEROFF
    assert printed(guest) == b"pyxc PVH guest: line 1\r\npyxc PVH guest: line 2\r\n"
