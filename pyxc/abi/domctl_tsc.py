# SPDX-License-Identifier: MIT
"""domctl tscinfo (public/domctl.h): the time stamp counter of a domain."""

from __future__ import annotations

from enum import IntEnum

from pyxc.abi.layout import HANDLE, U32, U64, Row, Table, nested, pad
from pyxc.abi.operation import DOMCTL, Operation


class TscMode(IntEnum):
    """tsc_info.tsc_mode (TSC_MODE_*, which no public header has; xen-tscmode(7) explains them)."""

    DEFAULT = 0
    """Native if that is safe and the host has the given frequency, else emulated."""
    ALWAYS_EMULATE = 1
    NEVER_EMULATE = 2
    PVRDTSCP = 3
    """To 4.11."""


_TSC_INFO = (
    Row("tsc_mode",     U32),
    Row("gtsc_khz",     U32),
    Row("incarnation",  U32),
    pad(4),
    Row("elapsed_nsec", U64),
)  # fmt: skip
GUEST_TSC_INFO_STRUCT = Table("xen_guest_tsc_info", "domctl", *_TSC_INFO, start=0x6, stop=0xB)

TSC_INFO_STRUCT = Table(
    "xen_domctl_tsc_info", "domctl",
    Row("out_info", HANDLE, stop=0xB),
    *nested("info", GUEST_TSC_INFO_STRUCT, stop=0xB),
    *(row._replace(start=0xB) for row in _TSC_INFO),
    start=0x6,
)  # fmt: skip
"""Up to 4.5 gettscinfo writes a xen_guest_tsc_info to `out_info`, settscinfo reads `info`."""

GETTSCINFO = Operation(DOMCTL, "gettscinfo", 59, TSC_INFO_STRUCT, changes=False)
SETTSCINFO = Operation(DOMCTL, "settscinfo", 60, TSC_INFO_STRUCT, changes=True)
