# SPDX-License-Identifier: MIT
"""The processor frequencies of a simulated host, and who chooses among them."""

from __future__ import annotations

from typing import NamedTuple


class Frequencies(NamedTuple):
    """What the firmware of a host has, the fastest first, and who chooses among them; 0 is no limit."""

    frequencies_mhz: tuple[int, ...] = (2400, 1800, 1200)
    governors: tuple[str, ...] = ("userspace", "performance", "powersave", "ondemand")
    governor: str = "ondemand"
    driver: str = "acpi-cpufreq"
    maximum_khz: int = 0
    minimum_khz: int = 0
    speed_khz: int = 0
    sampling_rate_us: int = 20000
    up_threshold_percent: int = 80
    turbo: bool = True
