# SPDX-License-Identifier: MIT
"""What a Linux kernel says of itself for debuggers, VMCOREINFO: a page of lines NAME=VALUE."""

from __future__ import annotations

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.domain.address_space import AddressSpace

_BEGINS = b"OSRELEASE="
_NEEDED = (b"\nPAGESIZE=", b"\nSYMBOL(", b"\nNUMBER(")
MOST = PAGE_SIZE
_CANDIDATES = 64
SEARCHED = 1 << 36
"""Bytes of memory in which it is searched for: 64 GiB."""


def find(physical: AddressSpace) -> bytes:
    """The text, at the beginning of a page of the guest's memory. LookupError if there is none."""
    for count, address in enumerate(physical.search(_BEGINS, limit=SEARCHED)):
        if count >= _CANDIDATES:
            break
        if address % PAGE_SIZE == 0:
            text = _text(physical.read(address, PAGE_SIZE))
            if text is not None:
                return text
    raise LookupError("the guest's memory has no VMCOREINFO: is it Linux, with CONFIG_VMCORE_INFO?")


def check(text: bytes) -> bytes:
    """The text of a file. DecodeError for anything else."""
    found = _text(text.ljust(1, b"\0")) if len(text) <= MOST else None
    if found is None:
        raise errors.DecodeError("this is not a VMCOREINFO: expected lines like OSRELEASE=6.1.0")
    return found


def _text(page: bytes) -> bytes | None:
    text = page.partition(b"\0")[0]
    printable = text.isascii() and text.replace(b"\n", b"").decode("ascii", "replace").isprintable()
    if printable and text.startswith(_BEGINS) and all(name in text for name in _NEEDED):
        return text
    return None
