# SPDX-License-Identifier: MIT
"""multicall (public/xen.h): many hypercalls in one, and 64-bit results."""

from __future__ import annotations

from pyxc.abi.layout import S64, U64, Row, Table

ENTRY_STRUCT = Table(
    "multicall_entry", "xen",
    Row("op",     U64),
    Row("result", S64),  # unsigned in the header, yet a negative errno when the call failed
    Row("args",   U64, 6),
)  # fmt: skip
