# SPDX-License-Identifier: MIT
"""The hypervisor's file system: a tree of values, some of them writable."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from pyxc import answers, arguments, errors
from pyxc.abi import hypfs
from pyxc.abi.hypfs import Encoding, Type
from pyxc.host.host import Host

Value = str | int | bool | bytes
_ROOM = 1 << 14
_MOST_ROOM = 1 << 26
_GZIP = zlib.MAX_WBITS | 16
_NUMBERS = (Type.UINT, Type.INT)
_NUMBER_BYTES_MOST = 8


class Entry(NamedTuple):
    """A value or a directory: its full path, and the most bytes that may be written to it (0: read-only).

    Example:

    >>> entry = xen.hypfs.entry("/buildinfo/version/minor")
    >>> entry.path, entry.type.name, entry.writable
    ('/buildinfo/version/minor', 'UINT', False)
    """

    path: str
    type: Type
    encoding: Encoding
    size_bytes: int
    max_write_bytes: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def writable(self) -> bool:
        return self.max_write_bytes > 0


class Hypfs:
    """The tree that `xenhypfs` shows (hypfs_op, public/hypfs.h; since Xen 4.14). Threads: safe to share.

    Paths begin with "/". Unsupported in older releases, and in a hypervisor that was built without it.
    ENOENT: no such entry; EACCES: it is read-only.

    Example:

    >>> xen.hypfs.read("/buildinfo/version/minor")
    17
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    @property
    def version(self) -> int:
        """The newest interface version that the hypervisor supports."""
        return self._xen.call(hypfs.GET_VERSION).result

    def entry(self, path: str) -> Entry:
        """The entry at a path."""
        return self._read(path)[0]

    def entries(self, path: str = "/") -> list[Entry]:
        """The entries of a directory, by name. ENOTDIR (OSError) if it is not a directory."""
        entry, data = self._read(path)
        if entry.type is not Type.DIR:
            raise self._xen.caller.error(hypfs.READ, errno.ENOTDIR, None)
        return list(self._inside(entry.path.rstrip("/"), data))

    def walk(self, path: str = "/") -> Iterator[Entry]:
        """Everything below a directory, each directory before its entries."""
        waiting = self.entries(path)[::-1]
        while waiting:
            entry = waiting.pop()
            yield entry
            if entry.type is Type.DIR:
                waiting += self.entries(entry.path)[::-1]

    def read(self, path: str) -> Value:
        """A value: str, int, bool, or bytes (a blob, unpacked). EISDIR (OSError) for a directory."""
        entry, data = self._read(path)
        if entry.type is Type.DIR:
            raise self._xen.caller.error(hypfs.READ, errno.EISDIR, None)
        return self._value(entry, data)

    def write(self, path: str, value: Value) -> None:
        """Change a value; its type is that of read() (hypfs_op write_contents).

        TypeError for another type, ValueError for a value that does not fit.
        """
        data = self._encoded(self.entry(path), value)
        name = _path(path)
        self._xen.call(hypfs.WRITE_CONTENTS, path=name, path_size=len(name), data=data, data_size=len(data))

    def _read(self, path: str) -> tuple[Entry, bytes]:
        """An entry and its contents; with a larger buffer if the first was too small."""
        name = _path(path)
        room = _ROOM
        while True:
            try:
                reply = self._xen.call(hypfs.READ, path=name, path_size=len(name), data=room, data_size=room)
            except errors.HypercallError as error:
                if error.errno != errno.ENOBUFS or room >= _MOST_ROOM:
                    raise
                room *= 4
                continue
            data = reply.buffers["data"]
            head = hypfs.DIRENTRY_STRUCT.at(self._xen.interface)
            fields = head.unpack(data)
            if head.size + fields["content_len"] > room:
                raise errors.DecodeError(
                    f"{path}: the hypervisor reports {fields['content_len']} bytes in a buffer of {room}"
                )
            return _entry(path, fields), data[head.size : head.size + fields["content_len"]]

    def _inside(self, parent: str, data: bytes) -> Iterator[Entry]:
        layout = hypfs.DIRLISTENTRY_STRUCT.at(self._xen.interface)
        name_at = layout.offsets["name"]
        at = 0
        while at + layout.size <= len(data):
            fields = layout.unpack(data, at)
            size = fields["off_next"] and answers.number(
                "off_next", fields["off_next"], len(data), layout.size
            )
            name = data[at + name_at : at + size if size else None]
            yield _entry(_below(parent, name), {key.removeprefix("e."): fields[key] for key in fields})
            if not size:
                return
            at += size

    def _value(self, entry: Entry, data: bytes) -> Value:
        if entry.encoding is Encoding.GZIP:
            data = _unpacked(entry.path, data)
        if entry.type is Type.STRING:
            return data.split(b"\0", 1)[0].decode("utf-8", "replace")
        if entry.type is Type.BOOL:
            return any(data)
        if entry.type in _NUMBERS:
            answers.number(f"size of {entry.path}", len(data), _NUMBER_BYTES_MOST)
            return int.from_bytes(data, self._xen.link.byteorder, signed=entry.type is Type.INT)
        return data

    def _encoded(self, entry: Entry, value: Value) -> bytes:
        """The bytes of a value for an entry, of its present size if the type has a fixed size."""
        if entry.type is Type.BOOL and isinstance(value, bool):
            return bytes([value])
        if entry.type in _NUMBERS and isinstance(value, int) and not isinstance(value, bool):
            bits = answers.number(f"size of {entry.path}", entry.size_bytes, _NUMBER_BYTES_MOST, 1) * 8
            signed = entry.type is Type.INT
            least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
            arguments.natural(entry.path, value, most, least)
            return value.to_bytes(entry.size_bytes, self._xen.link.byteorder, signed=signed)
        if entry.type is Type.STRING and isinstance(value, str):
            if "\0" in value:
                raise ValueError("a hypervisor string cannot contain a NUL")
            return value.encode() + b"\0"
        if entry.type is Type.BLOB and isinstance(value, bytes):
            return value
        raise TypeError(f"{entry.path} is a {entry.type.name}: {value!r} is not a valid value")

    def __repr__(self) -> str:
        return f"<Hypfs of {self._xen.link.target}>"


def _below(parent: str, data: bytes) -> str:
    """The path of an entry: longer than the directory's path, so that no tree is endless."""
    name = answers.name(f"an entry of {parent}/", data)
    path = f"{parent}/{name}"
    if "/" in name or len(path) >= hypfs.XEN_HYPFS_MAX_PATHLEN:
        raise errors.DecodeError(f"{path} is not a hypfs path")
    return path


def _entry(path: str, fields: dict[str, int]) -> Entry:
    try:
        kind, encoding = Type(fields["type"]), Encoding(fields["encoding"])
    except ValueError as error:
        raise errors.DecodeError(f"{path}: {error}") from error
    return Entry(path, kind, encoding, fields["content_len"], fields["max_write_len"])


def _unpacked(path: str, data: bytes) -> bytes:
    """Contents without their compression, _MOST_ROOM bytes at most."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        content = unpacker.decompress(data, _MOST_ROOM)
    except zlib.error as error:
        raise errors.DecodeError(f"{path}: {error}") from error
    if not unpacker.eof:
        raise errors.DecodeError(f"{path}: the contents are truncated, or longer than {_MOST_ROOM} bytes")
    return content


def _path(path: str) -> bytes:
    """A path for the hypervisor. ValueError for an invalid one."""
    if not path.startswith("/") or not path.isascii() or "\0" in path:
        raise ValueError(f"path is {path!r}: expected ASCII that begins with '/'")
    data = (path.rstrip("/") or "/").encode("ascii") + b"\0"
    arguments.natural("length of the path", len(data), hypfs.XEN_HYPFS_MAX_PATHLEN)
    return data
