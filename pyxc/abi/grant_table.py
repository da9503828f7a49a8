# SPDX-License-Identifier: MIT
"""grant_table_op (public/grant_table.h): pages that domains share with each other."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.layout import HANDLE, S16, U16, U32, Row, Table, pad
from pyxc.abi.operation import GRANT_TABLE_OP, Operation


class Status(IntEnum):
    """The `status` that an operation leaves in its structure (GNTST_*)."""

    OKAY = 0
    GENERAL_ERROR = -1
    BAD_DOMAIN = -2
    BAD_GNTREF = -3
    BAD_HANDLE = -4
    BAD_VIRT_ADDR = -5
    BAD_DEV_ADDR = -6
    NO_DEVICE_SPACE = -7
    PERMISSION_DENIED = -8
    BAD_PAGE = -9
    BAD_COPY_ARG = -10
    ADDRESS_TOO_BIG = -11
    EAGAIN = -12
    NO_SPACE = -13


class Reserved(IntEnum):
    """References that a toolstack fills in for a new domain (GNTTAB_RESERVED_*)."""

    CONSOLE = 0
    XENSTORE = 1


PERMIT_ACCESS: Final = 1
"""Flags of an entry: its page may be mapped."""
READONLY: Final = 4
"""Flags of an entry: but only for reading."""

ENTRY_V1_STRUCT = Table(
    "grant_entry_v1", "xen",
    Row("flags", U16),
    Row("domid", U16),
    Row("frame", U32),
)  # fmt: skip
"""An entry of a table of version 1: the frame, and the domain to which it is granted."""

SETUP_TABLE_STRUCT = Table(
    "gnttab_setup_table", "xen",
    Row("dom",        U16),
    pad(2),
    Row("nr_frames",  U32),
    Row("status",     S16),
    pad(6),
    Row("frame_list", HANDLE),
)  # fmt: skip

QUERY_SIZE_STRUCT = Table(
    "gnttab_query_size", "xen",
    Row("dom",           U16),
    pad(2),
    Row("nr_frames",     U32),
    Row("max_nr_frames", U32),
    Row("status",        S16),
    pad(2),
)  # fmt: skip

GET_VERSION_STRUCT = Table(
    "gnttab_get_version", "xen",
    Row("dom",     U16),
    pad(2),
    Row("version", U32),
    start=(4, 0),
)  # fmt: skip

SETUP_TABLE = Operation(GRANT_TABLE_OP, "setup_table", 2, SETUP_TABLE_STRUCT, changes=True)
QUERY_SIZE = Operation(GRANT_TABLE_OP, "query_size", 6, QUERY_SIZE_STRUCT, changes=False, start=(3, 1))
GET_VERSION = Operation(GRANT_TABLE_OP, "get_version", 10, GET_VERSION_STRUCT, changes=False)
