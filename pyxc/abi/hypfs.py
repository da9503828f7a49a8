# SPDX-License-Identifier: MIT
"""hypfs_op (public/hypfs.h): a tree of values, some of them writable, since Xen 4.14."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyxc.abi.errno import XenErrno
from pyxc.abi.layout import HANDLE, U8, U16, U32, U64, Row, Table, nested, pad
from pyxc.abi.operation import HYPFS_OP, Operation


class Type(IntEnum):
    """The type of an entry (XEN_HYPFS_TYPE_*)."""

    DIR = 0
    BLOB = 1
    STRING = 2
    UINT = 3
    INT = 4
    BOOL = 5


class Encoding(IntEnum):
    """The encoding of its contents (XEN_HYPFS_ENC_*)."""

    PLAIN = 0
    GZIP = 1


XEN_HYPFS_MAX_PATHLEN: Final = 1024
"""Bytes of the longest path, its NUL included."""

DIRENTRY_STRUCT = Table(
    "xen_hypfs_direntry", "xen",
    Row("type",          U8),
    Row("encoding",      U8),
    pad(2),
    Row("content_len",   U32),
    Row("max_write_len", U32),
    start=(4, 14),
)  # fmt: skip

# The name follows at `name`, up to its NUL; the structure's own padding is part of it.
DIRLISTENTRY_STRUCT = Table(
    "xen_hypfs_dirlistentry", "xen",
    *nested("e", DIRENTRY_STRUCT),
    Row("off_next", U16),
    Row("name",     U8, 2),
    start=(4, 14),
)  # fmt: skip

# Not a structure of the header, where these are arguments of the hypercall.
CONTENT_STRUCT = Table(
    "hypfs_op_arguments", "xen",
    Row("path",      HANDLE),
    Row("path_size", U64),
    Row("data",      HANDLE),
    Row("data_size", U64),
    start=(4, 14),
)  # fmt: skip

GET_VERSION = Operation(HYPFS_OP, "get_version", 0, changes=False, start=(4, 14))
_NO_ENTRY: dict[int, str] = {XenErrno.ENOENT: "the tree has no such entry"}
READ = Operation(HYPFS_OP, "read", 1, CONTENT_STRUCT, changes=False, start=(4, 14), hints=_NO_ENTRY)
WRITE_CONTENTS = Operation(
    HYPFS_OP, "write_contents", 2, CONTENT_STRUCT, changes=True, start=(4, 14), hints=_NO_ENTRY
)
