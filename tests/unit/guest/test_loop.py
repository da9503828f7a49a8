# SPDX-License-Identifier: MIT
"""Files as block devices; what only a kernel with loop devices shows is in tests/real/test_guest_life.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pyxc.guest import bridge, loop
from pyxc.guest.loop import BlockDevice


def test_the_structure_is_as_large_as_the_kernels() -> None:
    assert loop._CONFIG.size == 304


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(
    ("path", "number"), [("/nothing", errno.ENOENT), ("/dev/null", errno.ENOTBLK), ("/proc", errno.EISDIR)]
)
def test_what_is_no_disk(path: str, number: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as raised:
        BlockDevice(path, writable=True)
    assert raised.value.errno == number
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.usefixtures("no_collection")
def test_a_file_where_there_are_no_loop_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_CONTROL", str(tmp_path / "loop-control"))
    (tmp_path / "disk.img").write_bytes(bytes(512))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError, match="loop-control"):
        BlockDevice(str(tmp_path / "disk.img"), writable=False)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_bridge_that_is_not_there() -> None:
    with pytest.raises(OSError, match="dom0 has no bridge nobridge0"):
        bridge.check("nobridge0")
    with pytest.raises(OSError, match="dom0 has no bridge lo"):
        bridge.check("lo")
