# SPDX-License-Identifier: MIT
"""volatility3 on running guests, through contrib/volatility3."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pyxc

PLUGIN = Path(__file__).parents[3] / "contrib" / "volatility3" / "xen_guest.py"


@pytest.fixture
def accessor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What volatility3 opens its locations with, after it has loaded the plugin."""
    resources = pytest.importorskip("volatility3.framework.layers.resources", reason="no volatility3")
    monkeypatch.setenv("PYXC_TARGET", "sim:xen-4.17")
    spec = importlib.util.spec_from_file_location("xen_guest", PLUGIN)
    assert spec and spec.loader
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return resources.ResourceAccessor()


def test_a_running_guest_is_a_file(accessor: Any) -> None:
    with accessor.open("xen://db1") as file:
        file.seek(0x100000)
        assert file.read(25) == b"db1: simulated PVH kernel"
        assert file.tell() == 0x100019
        file.seek((128 << 20) - 8)
        assert file.read(4096) == bytes(4096)
        end = file.seek(0, 2)
        assert end % 4096 == 0 and file.read(1) == b""


def test_page_tables_of_a_pv_guest_have_guest_frames(accessor: Any) -> None:
    with pyxc.open("sim:xen-4.17") as xen:
        web1 = xen.domains["web1"]
        frames = web1.memory.p2m().entries
        top = frames.index(web1.vcpu(0).context()["cr3"] // 4096)
    with accessor.open("xen://web1") as file:
        file.seek(4096 * top)
        entry = next(word for (word,) in struct.iter_unpack("<Q", file.read(4096)) if word & 1)
    assert entry >> 12 < len(frames) <= frames[entry >> 12]


def test_a_guest_that_a_memory_server_serves(accessor: Any, tmp_path: Path) -> None:
    words = ["--target", "sim:xen-4.17", "memory-server", "--unix", str(tmp_path / "memory"), "db1"]
    with subprocess.Popen([sys.executable, "-m", "pyxc", *words], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout and server.stdout.readline().startswith(b"listening: ")
            with accessor.open(f"xen://unix:{tmp_path}/memory") as file:
                file.seek(0x100000)
                assert file.read(25) == b"db1: simulated PVH kernel"
        finally:
            server.terminate()
