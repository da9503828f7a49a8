# SPDX-License-Identifier: MIT
"""What a Linux kernel says of itself for debuggers, VMCOREINFO: a page of lines NAME=VALUE."""

from __future__ import annotations

import re
from collections.abc import Iterable

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


def find_in(pieces: Iterable[bytes]) -> bytes | None:
    """The same in pages of a dump, which come in pieces of whole pages; None if there is none."""
    for piece in pieces:
        for start in range(0, len(piece), PAGE_SIZE):
            if piece.startswith(_BEGINS, start):
                text = _text(piece[start : start + PAGE_SIZE])
                if text is not None:
                    return text
    return None


def release(text: bytes) -> str:
    """The release of the kernel, as uname -r prints it."""
    return text[len(_BEGINS) :].partition(b"\n")[0].decode("ascii", "replace")


def symbol(text: bytes, name: str) -> int | None:
    """The address of a symbol, if the text has it."""
    found = re.search(rb"^SYMBOL\(%b\)=([0-9a-f]{1,16})$" % name.encode(), text, re.MULTILINE)
    return None if found is None else int(found[1], 16)


def number(text: bytes, name: str) -> int | None:
    """A number, if the text has it."""
    found = re.search(rb"^NUMBER\(%b\)=(-?[0-9]{1,19})$" % name.encode(), text, re.MULTILINE)
    return None if found is None else int(found[1])


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
