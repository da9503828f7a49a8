# SPDX-License-Identifier: MIT
"""Operations on the nodes of xenstore, inside and outside a transaction."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyxc.errors import StoreError
from pyxc.store.wire import Kind, split

if TYPE_CHECKING:
    from pyxc.store.permission import Permission

_LIST_MOST = 1 << 24
_LIST_ATTEMPTS = 100

Value = bytes | bytearray | memoryview | str


class Nodes(ABC):
    """Nodes by path. Reading a missing node returns None.

    Paths are absolute, or relative to the own domain's home. An invalid path is a ValueError before anything
    is sent, and so is a value that does not fit, with its path, in a message of 4096 bytes. A refusal by
    xenstore is a StoreError with `errno`, `operation` and `path`.
    """

    @abstractmethod
    def request(self, kind: Kind, path: str | None, *strings: bytes, tail: bytes = b"") -> bytes:
        """Send one request of the protocol, with bytes at its end; returns the payload of the reply."""

    @abstractmethod
    def request_each(self, kind: Kind, paths: Iterable[str]) -> list[bytes | StoreError]:
        """Send a request for each path, without waiting for each reply; returns payloads and refusals."""

    def read(self, path: str) -> bytes | None:
        """The value of a node; b"" for a node without a value.

        Example:

        >>> xen.store.read("/local/domain/1/name")
        b'web1'
        """
        return self._if_there(Kind.READ, path)

    def read_many(self, paths: Iterable[str]) -> list[bytes | StoreError | None]:
        """The values of many nodes, in the order of the paths; much faster than one after the other.

        A node that xenstore refuses to show has a StoreError in place of its value. StoreError, raised, if
        xenstore does not reply: the timeout is for a few requests at a time.

        Example:

        >>> xen.store.read_many(f"/local/domain/{domid}/name" for domid in xen.domains)
        [b'Domain-0', b'web1', b'db1', b'build']
        """
        if isinstance(paths, str):
            raise TypeError("expected several paths, got a str: read() is for one path")
        return [if_there(found) for found in self.request_each(Kind.READ, paths)]

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
        """Set a value; creates the node and its parents if they are missing. A str is sent as UTF-8.

        Example:

        >>> xen.store.write("/tool/backup/last", "2026-11-25")
        >>> xen.store.list("/tool/backup")
        ['last']
        """
        if not isinstance(value, Value):
            raise TypeError(f"a value is bytes or str, not {type(value).__name__}")
        self.request(Kind.WRITE, path, tail=value.encode() if isinstance(value, str) else bytes(value))

    def mkdir(self, path: str) -> None:
        """Create a node without a value, and its parents; an existing node is not changed."""
        self.request(Kind.MKDIR, path)

    def remove(self, path: str) -> None:
        """Remove a node with everything below it; a missing node is not an error."""
        self._if_there(Kind.RM, path)

    def permissions(self, path: str) -> tuple[Permission, ...] | None:
        """The permissions of a node; the first is its owner's."""
        from pyxc.store.permission import Permission

        answer = self._if_there(Kind.GET_PERMS, path)
        if answer is None:
            return None
        try:
            return tuple(Permission.parse(text) for text in split(answer))
        except ValueError as error:
            raise StoreError(errno.EPROTO, str(error), "get_perms", path) from error

    def set_permissions(self, path: str, permissions: Iterable[Permission | str]) -> None:
        """Set the owner and the access of others: ("n0", "r3"). StoreError ENOENT if there is no such
        node."""
        from pyxc.store.permission import Permission

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
        """Read a list that is longer than a message; start again if the node changes in between."""
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


def if_there(found: bytes | StoreError) -> bytes | StoreError | None:
    """None instead of the error for a missing node."""
    return None if isinstance(found, StoreError) and found.errno == errno.ENOENT else found


class _Changed(Exception):
    """A node has changed since the last part of its list."""
