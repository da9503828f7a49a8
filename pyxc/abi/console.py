# SPDX-License-Identifier: MIT
"""The ring of a PV console (public/io/console.h)."""

from __future__ import annotations

from typing import Final

from pyxc.abi.layout import U8, U32, Row, Table

IN_BYTES: Final = 1024
OUT_BYTES: Final = 2048
CONNECTED: Final = 0
DISCONNECTED: Final = 1
"""`connection`, since Xen 4.21: a guest that sees DISCONNECTED may wait before it prints."""

RING_STRUCT = Table(
    "xencons_interface", "xen",
    Row("in",         U8, IN_BYTES),
    Row("out",        U8, OUT_BYTES),
    Row("in_cons",    U32),
    Row("in_prod",    U32),
    Row("out_cons",   U32),
    Row("out_prod",   U32),
)  # fmt: skip
"""Indices count bytes and wrap at 2**32; the offset of a byte is its index modulo the size."""

CONNECTION_OFFSET: Final = 3088
"""The offset of `connection`, one byte after the indices."""
