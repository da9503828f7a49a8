# SPDX-License-Identifier: MIT
"""xen.lowlevel.xs of Xen 4.15 to 4.22, in place of Xen's own: same methods, arguments, results, errors.

What differs: a request ends after five seconds with ETIMEDOUT where the original waits forever; an error has
its number as `errno`, too; an event that says the same as one that still waits to be read is dropped; a child
that inherits a connection opens its own.
"""

from __future__ import annotations

import errno
import operator
import os
import re
from collections.abc import Callable
from typing import Any, SupportsIndex, TypeVar

from pyxc._core import fork_count
from pyxc.compat.target import connect_store
from pyxc.errors import StoreError
from pyxc.store import Access, Event, Kind, Permission, StoreClient, Transaction, Watch
from pyxc.store.nodes import Nodes
from pyxc.store.wire import PAYLOAD_MOST

__all__ = ["Error", "xs"]

T = TypeVar("T")

_HEX = re.compile(r"\s*(?:0[xX])?([0-9a-fA-F]+)")
_INT_MOST = 2**31 - 1
_U32 = 2**32 - 1
_U64 = 2**64 - 1


class Error(RuntimeError):
    """A call failed: Error(errno, text)."""

    @property
    def errno(self) -> int | None:
        return self.args[0] if self.args else None


class _Watched:
    """The token of watch(); events have the same object."""

    def __init__(self, path: str, token: object) -> None:
        self.path = path
        self.token = token


class xs:
    """Xenstore connections"""

    def __init__(self, readonly: int = 0) -> None:
        """`readonly` means nothing, as in the original."""
        self._watched: list[_Watched] = []
        self._connect()

    def _connect(self) -> None:
        self._forks = fork_count()
        self._client = StoreClient(connect_store)
        try:
            self._listener = self._client.watch()
        except StoreError as error:
            raise _error(errno.ENOENT if error.errno == errno.ENODEV else error.errno) from error

    def _reopen_in_child(self) -> None:
        """A child that inherits an open connection makes its own, with the same watches, as a daemon does."""
        if self._forks != fork_count() and not self._client.closed:
            self._client.close()
            self._connect()
            for watched in self._watched:
                _told(self._listener.add, watched.path, watched)

    @property
    def _store(self) -> StoreClient:
        self._reopen_in_child()
        return self._client

    @property
    def _watch(self) -> Watch:
        self._reopen_in_child()
        return self._listener

    def read(self, transaction: str, path: str, /) -> bytes | None:
        """The value of a node, None without one."""
        return _told(self._nodes(transaction).read, _text(2, path))

    def write(self, transaction: str, path: str, data: str | bytes, /) -> None:
        """Set a node's value."""
        if not isinstance(data, str | bytes):
            raise TypeError(f"argument 3 must be read-only bytes-like object, not {type(data).__name__}")
        value = data.encode() if isinstance(data, str) else data
        if len(_text(2, path)) + 1 + len(value) > PAYLOAD_MOST:
            raise _error(errno.E2BIG)
        _told(self._nodes(transaction).write, path, value)

    def ls(self, transaction: str, path: str, /) -> list[str] | None:
        """Names of the children, None if there is no such node."""
        return _told(self._nodes(transaction).list, _text(2, path))

    def mkdir(self, transaction: str, path: str, /) -> None:
        """Create a node, if it does not exist."""
        _told(self._nodes(transaction).mkdir, _text(2, path))

    def rm(self, transaction: str, path: str, /) -> None:
        """Remove a node, if there is one."""
        _told(self._nodes(transaction).remove, _text(2, path))

    def get_permissions(self, transaction: str, path: str, /) -> list[dict[str, int]]:
        """Of each permission "dom", "read" (0 or 1) and "write" (0 or 2)."""
        found = _told(self._nodes(transaction).permissions, _text(2, path))
        if found is None:
            raise _error(errno.ENOENT)
        return [
            {"dom": domid, "read": int(access & Access.READ), "write": int(access & Access.WRITE)}
            for domid, access in found
        ]

    def set_permissions(self, transaction: str, path: str, permissions: list[dict[str, Any]], /) -> None:
        """Set permissions. dom0 becomes the owner where the first one says what its domain may do."""
        nodes = self._nodes(transaction)
        if not isinstance(permissions, list):
            raise _error(errno.EINVAL)
        parsed = [_permission(**one) for one in permissions]
        if parsed and parsed[0].access and parsed[0].domid:
            parsed.insert(0, Permission(0, Access.NONE))
        _told(nodes.set_permissions, _text(2, path), parsed)

    def watch(self, path: str, token: object, /) -> None:
        """Watch a path. The token, any object, comes back with its events."""
        _text(1, path)
        if self._find(path, token) is not None:
            raise _error(errno.EEXIST)
        watched = _Watched(path, token)
        _told(self._watch.add, path, watched)
        self._watched.append(watched)

    def unwatch(self, path: str, token: object, /) -> None:
        """Stop watching a path."""
        watched = self._find(_text(1, path), token)
        if watched is None:
            raise _error(errno.EINVAL if self._store.closed else errno.ENOENT)
        self._watched.remove(watched)
        _told(self._watch.remove, path, watched)

    def _find(self, path: str, token: object) -> _Watched | None:
        return next((one for one in self._watched if one.path == path and one.token is token), None)

    def read_watch(self) -> tuple[str, object]:
        """Wait for an event: its path, and the token of the watch that fired."""
        while True:
            event = _told(self._watch.get)
            if event is not None:
                return _shown(event)

    def check_watch(self) -> tuple[str, object] | None:
        """The same, without waiting: None if there is no event."""
        event = _told(self._watch.get, 0)
        return None if event is None else _shown(event)

    def fileno(self) -> int:
        """For polling: readable when check_watch() may have an event."""
        return _told(self._watch.fileno)

    def transaction_start(self) -> str:
        """Begin a transaction."""
        return f"{_told(self._store.begin).number:X}"

    def transaction_end(self, transaction: str, abort: int = 0) -> bool:
        """End it. False when it was not committed because others were faster."""
        ending = Transaction(self._store, _number(transaction))
        if operator.index(abort):
            _told(ending.abort)
            return True
        return _told(ending.commit)

    def introduce_domain(self, dom: int, page: int, port: int, /) -> None:
        """Let a domain use xenstore."""
        self._about(Kind.INTRODUCE, _int(dom), _page(page), _int(port))

    def release_domain(self, dom: int, /) -> None:
        """Stop that."""
        self._about(Kind.RELEASE, _int(dom))

    def resume_domain(self, dom: int, /) -> None:
        """Let @releaseDomain fire when it shuts down again."""
        self._about(Kind.RESUME, _int(dom))

    def set_target(self, dom: int, target: int, /) -> None:
        """Give a domain the rights of another one."""
        self._about(Kind.SET_TARGET, _int(dom), _int(target))

    def get_domain_path(self, dom: int, /) -> str:
        """A domain's home."""
        return self._about(Kind.GET_DOMAIN_PATH, _int(dom)).rstrip(b"\0").decode("ascii", "replace")

    def _about(self, kind: Kind, *numbers: int) -> bytes:
        """A request about a domain."""
        return _told(self._store.request, kind, None, *(str(number).encode() for number in numbers))

    def close(self) -> None:
        """End the connection. Every further call, of this method too, is an Error of EINVAL."""
        if self._store.closed:
            raise _error(errno.EINVAL)
        self._store.close()

    def _nodes(self, transaction: str) -> Nodes:
        number = _number(transaction)
        return Transaction(self._store, number) if number else self._store


def _told(action: Callable[..., T], *arguments: object) -> T:
    """The result of an action, with errors in the form of the original."""
    try:
        return action(*arguments)
    except StoreError as error:
        raise _error(error.errno) from error
    except ValueError as error:
        raise _error(errno.EINVAL) from error


def _error(number: int | None) -> Error:
    return Error(number, os.strerror(number or 0))


def _text(place: int, value: str) -> str:
    """A text without NUL."""
    if not isinstance(value, str):
        raise TypeError(f"argument {place} must be str, not {type(value).__name__}")
    if "\0" in value:
        raise ValueError("embedded null character")
    return value


def _number(transaction: str) -> int:
    """A transaction's number: hexadecimal, and 0 for none if there is no number."""
    match = _HEX.match(_text(1, transaction))
    return int(match[1], 16) & _U32 if match else 0


def _int(value: SupportsIndex) -> int:
    """A C int, passed on as unsigned."""
    number = operator.index(value)
    if not -_INT_MOST - 1 <= number <= _INT_MOST:
        raise OverflowError("signed integer is greater than maximum")
    return number & _U32


def _page(value: SupportsIndex) -> int:
    """A frame number, of 64 bits also where the original has a C long of 32."""
    number = operator.index(value)
    if not -(2**63) <= number <= _U64:
        raise OverflowError("Python int too large to convert to C long")
    return number & _U64


def _permission(dom: SupportsIndex, read: SupportsIndex = 0, write: SupportsIndex = 0) -> Permission:
    """Ints, as in the original: TypeError for any other truth, as a text."""
    access = (Access.READ if _int(read) else Access.NONE) | (Access.WRITE if _int(write) else Access.NONE)
    return Permission(_int(dom), access)


def _shown(event: Event) -> tuple[str, object]:
    return event.path, event.token.token
