# SPDX-License-Identifier: MIT
"""The xenstore protocol: messages and paths (xenstore.txt, public/io/xs_wire.h). No I/O."""

from __future__ import annotations

import errno
import re
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from operator import call
from typing import NamedTuple

from pyxc.errors import StoreError

PAYLOAD_MOST = 4096
"""The most bytes of a payload in either direction: more end the connection."""
HEADER_SIZE = 16
ABSOLUTE_MOST, RELATIVE_MOST = 3072, 2048
"""The most characters of a path."""

_HEADER = struct.Struct("=IIII")
_ALLOWED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_@/"
_SPECIAL = r"@[A-Za-z0-9_@/-]+"


class Kind(IntEnum):
    """The type of a message (enum xsd_sockmsg_type)."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    GET_DOMAIN_PATH = 10
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    RESUME = 18
    SET_TARGET = 19
    RESTRICT = 20
    RESET_WATCHES = 21
    DIRECTORY_PART = 22
    GET_FEATURE = 23
    SET_FEATURE = 24
    GET_QUOTA = 25
    SET_QUOTA = 26

    @property
    def operation(self) -> str:
        """Its name in errors and traces: "get_perms"."""
        return self.name.lower()


CHANGES = frozenset(
    (
        Kind.CONTROL,
        Kind.INTRODUCE,
        Kind.RELEASE,
        Kind.WRITE,
        Kind.MKDIR,
        Kind.RM,
        Kind.SET_PERMS,
        Kind.RESUME,
        Kind.SET_TARGET,
        Kind.SET_FEATURE,
        Kind.SET_QUOTA,
    )
)
"""Requests that a read-only client refuses."""


class Message(NamedTuple):
    """One request, reply or event. `request` and `transaction` are numbers, 0 for none."""

    kind: int
    request: int
    transaction: int
    payload: bytes

    def encode(self) -> bytes:
        return encoded(*self)


def encoded(kind: int, request: int, transaction: int, payload: bytes) -> bytes:
    """The bytes of a message."""
    return _HEADER.pack(kind, request, transaction, len(payload)) + payload


class Parser:
    """Cuts a stream of bytes into messages, whose payload has `most` bytes at most."""

    def __init__(self, most: int = PAYLOAD_MOST) -> None:
        self._most = most
        self._pieces: deque[bytes] = deque()
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are now complete. StoreError EPROTO for an invalid length."""
        self._data += data
        return list(self.messages())

    def read(self, receive: Callable[[], bytes]) -> None:
        """Feed it the result of `receive`; another thread may run messages().

        If `receive` is C this is one step of C: a signal handler that raises cannot lose bytes.
        """
        self._pieces.extend(map(call, (receive,)))

    def messages(self) -> Iterator[Message]:
        """The complete messages; each is kept until the next one is requested, so that none is lost.

        StoreError: ECONNRESET at the end of the stream, EPROTO as for feed().
        """
        yield from self._complete()
        while self._pieces:
            if not self._pieces[0]:
                raise StoreError(errno.ECONNRESET, "xenstored closed the connection")
            self._data += self._pieces[0]
            del self._pieces[0]
            yield from self._complete()

    def _complete(self) -> Iterator[Message]:
        data = self._data
        while len(data) >= HEADER_SIZE:
            kind, request, transaction, size = _HEADER.unpack_from(data)
            if size > self._most:
                raise StoreError(
                    errno.EPROTO, f"a message announces {size} bytes, more than the protocol allows"
                )
            end = HEADER_SIZE + size
            if len(data) < end:
                break
            yield Message(kind, request, transaction, bytes(data[HEADER_SIZE:end]))
            del data[:end]


def join(strings: Iterable[bytes]) -> bytes:
    """Strings, each with its NUL."""
    return b"".join([string + b"\0" for string in strings])


def split(payload: bytes) -> list[str]:
    """The strings of a reply. StoreError EPROTO if it is malformed."""
    if payload and not payload.endswith(b"\0"):
        raise StoreError(errno.EPROTO, "the reply's last string has no NUL")
    try:
        return [string.decode("ascii") for string in payload.split(b"\0")[:-1]]
    except UnicodeDecodeError as error:
        raise StoreError(errno.EPROTO, f"the reply is not ASCII text: {payload[:40]!r}") from error


def path_bytes(path: str, special: bool = False) -> bytes:
    """A path as bytes, or with `special` also a special path. TypeError, ValueError."""
    if not isinstance(path, str):
        raise TypeError(f"path must be a str, not {type(path).__name__}")
    most = ABSOLUTE_MOST if path.startswith("/") else RELATIVE_MOST
    if len(path) > most:
        raise ValueError(f"the path has {len(path)} characters: xenstore accepts at most {most}")
    if not (_is_node(path) or (special and re.fullmatch(_SPECIAL, path))):
        raise ValueError(
            f"{path!r} is not a path: expected letters, digits, -, _ and @ between single slashes"
        )
    return path.encode("ascii")


def _is_node(path: str) -> bool:
    """A regular expression would take longer than all else that is done for a request."""
    if path == "/":
        return True
    slashes = "//" in path or path.endswith("/")
    return path.isascii() and not (
        slashes or not path or path[0] == "@" or path.encode().translate(None, _ALLOWED)
    )


def error_of(payload: bytes) -> tuple[int, str]:
    """The errno and the name in a reply of type ERROR; EIO for an unknown name."""
    name = payload.rstrip(b"\0").decode("ascii", "replace")
    number = getattr(errno, name, None) if name.startswith("E") else None
    return (number, name) if isinstance(number, int) else (errno.EIO, name)
