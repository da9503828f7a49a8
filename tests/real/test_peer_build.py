# SPDX-License-Identifier: MIT
"""Linux in guests that pyxc builds; it waits for a xenstored, which here is Xen's own."""

from __future__ import annotations

import pytest
from builds import Build, image, wait_for_text
from ground_truth import Peer

import pyxc

PATIENCE_S = 240


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_linux(xen: pyxc.Xen, build: Build, peer: Peer, kind: str) -> None:
    """Debian's kernel with a ramdisk, until a program of the ramdisk prints."""
    options = {"ramdisk": image("initrd"), "memory_kb": 160 << 10, "kind": kind, "vcpus": 2}
    guest = build("vmlinuz", "console=hvc0 quiet", **options)
    home = f"/local/domain/{guest.domid}"
    xen.store.write(home, "")
    xen.store.set_permissions(home, [f"n{guest.domid}"])
    xen.store.introduce(guest.domid, guest.store_frame, guest.store_port)
    guest.unpause()
    wait_for_text(guest, b"guest is up", PATIENCE_S)
    assert guest.info().nr_online_vcpus == 2
    xen.store.remove(home)
