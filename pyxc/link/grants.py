# SPDX-License-Identifier: MIT
"""Linux's grant devices: mapping granted pages (linux/xen/gntdev.h), and granting pages (gntalloc.h).

Each mapping has its own device, whose descriptor is closed after mmap: the mapping keeps it open, and
unmapping ends the grants.
"""

from __future__ import annotations

import os
import struct
from array import array
from io import FileIO

from pyxc._core import IOCTL, ForeignMap, Privcmd, device_ioctl
from pyxc.abi.domid import DOMID_SELF
from pyxc.link.device import open_device

_INDEX_AT = 8
_REFS_AT = 16
_PADDING = 4
_WRITABLE = 1


def map_grants(privcmd: Privcmd, domid: int, refs: array[int], writable: bool) -> ForeignMap:
    """EINVAL if the domain does not grant one of them, or only for reading."""
    grants = b"".join([struct.pack("=II", domid, ref) for ref in refs])
    request = bytearray(struct.pack("=IIQ", len(refs), 0, 0) + grants)
    with open_device("gntdev") as device:
        _ask(device, "gntdev_map_grant_ref", request, privcmd.gated)
        return privcmd.map_device(device.fileno(), domid, _index(request), len(refs), writable)


def lend_pages(privcmd: Privcmd, domid: int, count: int, writable: bool) -> tuple[list[int], ForeignMap]:
    """The pages are zero, and writable here, independent of the other domain's access.

    The kernel reads its whole structure, which has padding after one reference.
    """
    flags = _WRITABLE if writable else 0
    request = bytearray(struct.pack("=HHIQ", domid, flags, count, 0) + bytes(4 * count + _PADDING))
    with open_device("gntalloc") as device:
        _ask(device, "gntalloc_alloc_gref", request, privcmd.gated)
        pages = privcmd.map_device(device.fileno(), DOMID_SELF, _index(request), count, writable=True)
    return list(struct.unpack_from(f"={count}I", request, _REFS_AT)), pages


def _ask(device: FileIO, name: str, request: bytearray, gated: bool) -> None:
    result = device_ioctl(device.fileno(), IOCTL[name], request, gate=gated)
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def _index(request: bytearray) -> int:
    """The offset for mmap."""
    index: int = struct.unpack_from("=Q", request, _INDEX_AT)[0]
    return index
