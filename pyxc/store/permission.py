# SPDX-License-Identifier: MIT
"""Who may read and write a node (xenstore.txt)."""

from __future__ import annotations

import re
from typing import NamedTuple

from pyxc.abi.flags import Flags

_DOMID = r"[0-9]{1,5}"


class Access(Flags):
    """The access of a domain to a node."""

    NONE = 0
    READ = 1
    WRITE = 2


_LETTERS = {
    "n": Access.NONE,
    "r": Access.READ,
    "w": Access.WRITE,
    "b": Access.READ | Access.WRITE,
}
_LETTER_OF = {access: letter for letter, access in _LETTERS.items()}


class Permission(NamedTuple):
    """The access of one domain to a node; as a string "r3".

    The first of a node's permissions is special: its domain owns the node and may do everything, and its
    `access` is that of all domains that are not listed.

    Example:

    >>> xen.store.permissions("/local/domain/1/name")
    (Permission(domid=0, access=<Access.NONE: 0>), Permission(domid=1, access=<Access.READ: 1>))
    >>> str(pyxc.Permission.parse("r3"))
    'r3'
    """

    domid: int
    access: Access

    @classmethod
    def parse(cls, text: str) -> Permission:
        """Parse n, r, w or b (none, read, write, both) with a domid. ValueError if malformed."""
        letter, domid = text[:1], text[1:]
        if letter not in _LETTERS or not re.fullmatch(_DOMID, domid):
            raise ValueError(f"{text!r} is not a permission: expected n, r, w or b and a domid, as in r3")
        return cls(int(domid), _LETTERS[letter])

    def __str__(self) -> str:
        return f"{_LETTER_OF[self.access]}{self.domid}"
