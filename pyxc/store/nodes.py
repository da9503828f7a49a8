# SPDX-License-Identifier: MIT
"""What can be done with the nodes of xenstore, in a transaction and outside of any."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterable

from pyxc.errors import StoreError
from pyxc.store.wire import Kind, Permission, split

_LIST_MOST = 1 << 24
_LIST_ATTEMPTS = 100

Value = bytes | bytearray | memoryview | str


class Nodes(ABC):
    """Nodes by path. Where there is no node, what asks for it answers None.

    Paths are absolute, or relative to the own domain's home. A path that xenstore cannot have is a ValueError
    before anything is sent, and so is a value that does not fit with its path into a message of 4096 bytes.
    What xenstore refuses is a StoreError with `errno`, `operation` and `path`.
    """

    @abstractmethod
    def request(self, kind: Kind, path: str | None, *strings: bytes, tail: bytes = b"") -> bytes:
        """One request in the protocol's own terms, with bytes at its end; answers the payload."""

    def read(self, path: str) -> bytes | None:
        """A node's value; b"" for one that only has children."""
        return self._if_there(Kind.READ, path)

    def list(self, path: str) -> list[str] | None:
        """The names of a node's children, in xenstore's order, however many."""
        try:
            names = self._if_there(Kind.DIRECTORY, path)
        except StoreError as error:
            if error.errno != errno.E2BIG:
                raise
            names = self._list_in_parts(path)
        return None if names is None else [name for name in split(names) if name]

    def write(self, path: str, value: Value) -> None:
        """Set a value; makes the node, and its parents, where they are missing. Text is sent as UTF-8."""
        if not isinstance(value, Value):
            raise TypeError(f"a value is bytes or str, not {type(value).__name__}")
        self.request(Kind.WRITE, path, tail=value.encode() if isinstance(value, str) else bytes(value))

    def mkdir(self, path: str) -> None:
        """Make a node without a value, and its parents; nothing happens to one that is there."""
        self.request(Kind.MKDIR, path)

    def remove(self, path: str) -> None:
        """Remove a node with all below it; fine when there is none."""
        self._if_there(Kind.RM, path)

    def permissions(self, path: str) -> tuple[Permission, ...] | None:
        """Who may do what with a node; the first is its owner's."""
        answer = self._if_there(Kind.GET_PERMS, path)
        if answer is None:
            return None
        try:
            return tuple(Permission.parse(text) for text in split(answer))
        except ValueError as error:
            raise StoreError(errno.EPROTO, str(error), "get_perms", path) from error

    def set_permissions(self, path: str, permissions: Iterable[Permission | str]) -> None:
        """Give a node an owner and others their access: ("n0", "r3"). StoreError ENOENT without the node."""
        parsed = [one if isinstance(one, Permission) else Permission.parse(one) for one in permissions]
        if not parsed:
            raise ValueError("permissions is empty: the first one names the node's owner")
        self.request(Kind.SET_PERMS, path, *(str(one).encode() for one in parsed))

    def _if_there(self, kind: Kind, path: str) -> bytes | None:
        try:
            return self.request(kind, path)
        except StoreError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def _list_in_parts(self, path: str) -> bytes | None:
        """A list that is longer than a message; from its start again when the node changes in between."""
        for _ in range(_LIST_ATTEMPTS):
            try:
                return self._parts(path)
            except _Changed:
                continue
            except StoreError as error:
                if error.errno == errno.ENOENT:
                    return None
                raise
        raise StoreError(
            errno.EAGAIN, f"it changed during each of {_LIST_ATTEMPTS} reads", "directory_part", path
        )

    def _parts(self, path: str) -> bytes:
        names, first = bytearray(), None
        while names != b"\0" and not names.endswith(b"\0\0"):
            answer = self.request(Kind.DIRECTORY_PART, path, str(len(names)).encode())
            generation, _, piece = answer.partition(b"\0")
            first = generation if first is None else first
            if generation != first:
                raise _Changed
            if not piece or len(names) > _LIST_MOST:
                raise StoreError(errno.EPROTO, "a list without an end", "directory_part", path)
            names += piece
        return bytes(names)


class _Changed(Exception):
    """A node is not what it was at the last part of its list."""
