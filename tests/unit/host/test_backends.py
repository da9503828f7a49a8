# SPDX-License-Identifier: MIT
"""Counters of backend drivers, from files as Linux writes them."""

from __future__ import annotations

import os
from pathlib import Path

import kernel_files
import pytest

from pyxc.host import backends
from pyxc.host.backends import DiskCounters, NetworkCounters


def test_disks(tmp_path: Path) -> None:
    counters = {"rd_req": 7, "wr_req": 5, "f_req": 2, "ds_req": 1, "oo_req": 4, "rd_sect": 80, "wr_sect": 16}
    kernel_files.disk(tmp_path, 3, 51712, **counters)
    kernel_files.disk(tmp_path, 1, 51728, kind="tap", rd_req=1)
    first, second = backends.disks(str(tmp_path))
    assert first == DiskCounters(1, 51728, 1, 0, 0, 0, 0, 0, 0)
    assert second == DiskCounters(3, 51712, 7, 5, 2, 1, 4, 80, 16)
    assert (second.name, second.read_bytes, second.write_bytes) == ("xvda", 40960, 8192)


def test_networks_are_seen_from_the_guest(tmp_path: Path) -> None:
    kernel_files.network(tmp_path, 3, 0, rx_bytes=100, rx_packets=2, tx_bytes=900, tx_packets=3, tx_dropped=1)
    (found,) = backends.networks(str(tmp_path))
    assert found == NetworkCounters(3, 0, "vif3.0", 900, 3, 0, 1, 100, 2, 0, 0)


def test_an_interface_of_any_name_belongs_to_its_device(tmp_path: Path) -> None:
    kernel_files.network(tmp_path, 3, 1, name="web-lan", tx_bytes=9)
    (found,) = backends.networks(str(tmp_path))
    assert (found.domid, found.device, found.interface, found.receive_bytes) == (3, 1, "web-lan", 9)


def test_an_interface_without_a_device_is_known_by_its_name(tmp_path: Path) -> None:
    kernel_files.interface(tmp_path, "vif4.2", tx_bytes=9)
    kernel_files.interface(tmp_path, "vif4.2-emu", tx_bytes=9)
    kernel_files.interface(tmp_path, "eth0", tx_bytes=9)
    (found,) = backends.networks(str(tmp_path))
    assert (found.domid, found.device, found.receive_bytes) == (4, 2, 9)


def test_no_driver_is_no_error(tmp_path: Path) -> None:
    assert backends.disks(str(tmp_path)) == backends.networks(str(tmp_path)) == []


@pytest.mark.parametrize("text", ["", "12x", "-3", "9" * 40, "\N{SUPERSCRIPT TWO}"])
def test_a_file_without_a_number_counts_nothing(tmp_path: Path, text: str) -> None:
    directory = kernel_files.disk(tmp_path, 3, 51712, rd_req=1)
    (directory / "statistics/wr_req").write_text(text)
    (found,) = backends.disks(str(tmp_path))
    assert (found.read_requests, found.write_requests) == (1, 0)


def test_a_device_that_is_going_is_left_out(tmp_path: Path) -> None:
    directory = kernel_files.disk(tmp_path, 3, 51712, rd_req=1)
    for file in (directory / "statistics").iterdir():
        file.unlink()
    assert backends.disks(str(tmp_path)) == []


def test_other_names_are_no_devices(tmp_path: Path) -> None:
    for name in ("vbd-3", "vbd-3-51712-1", "console-1-0", "vbd-999999-1"):
        os.makedirs(tmp_path / "sys/bus/xen-backend/devices" / name / "statistics")
    assert backends.disks(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (51712, "xvda"),
        (51713, "xvda1"),
        (51728, "xvdb"),
        (202 << 8 | 15 << 4, "xvdp"),
        (1 << 28 | 16 << 8, "xvdq"),
        (1 << 28 | 26 << 8 | 3, "xvdaa3"),
        (768, "768"),
    ],
)
def test_names_of_disks(device: int, name: str) -> None:
    assert backends.disk_name(device) == name
