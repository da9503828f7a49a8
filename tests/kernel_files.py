# SPDX-License-Identifier: MIT
"""Files of a dom0 kernel's backend drivers, as Linux lays them out below /sys."""

from __future__ import annotations

from pathlib import Path

_DISK = ("f_req", "ds_req", "oo_req", "rd_req", "wr_req", "rd_sect", "wr_sect")
_NETWORK = (
    "rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped"
)  # fmt: skip
_DEVICES = "sys/bus/xen-backend/devices"


def disk(root: Path, domid: int, device: int, kind: str = "vbd", **counters: int) -> Path:
    """A virtual disk and its counters, 0 unless given. Returns its directory."""
    directory = root / _DEVICES / f"{kind}-{domid}-{device}"
    _write(directory / "statistics", _DISK, counters)
    return directory


def network(root: Path, domid: int, device: int, name: str | None = None, **counters: int) -> None:
    """A virtual interface, with counters as seen by the backend."""
    name = name or f"vif{domid}.{device}"
    _write(root / _DEVICES / f"vif-{domid}-{device}" / "net" / name / "statistics", _NETWORK, counters)
    interface(root, name, **counters)


def interface(root: Path, name: str, **counters: int) -> None:
    """An interface for which the kernel does not name a guest."""
    _write(root / "sys/class/net" / name / "statistics", _NETWORK, counters)


def _write(directory: Path, names: tuple[str, ...], counters: dict[str, int]) -> None:
    assert counters.keys() <= set(names)
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).write_text(f"{counters.get(name, 0)}\n")
