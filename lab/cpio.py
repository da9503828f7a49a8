# SPDX-License-Identifier: MIT
"""Initramfs archives (cpio "newc"), written from tar files and host directories without root.

The kernel unpacks archives that follow one another into one file system: a dom0 image is such a sequence.
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO

TAR_TYPES = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.AREGTYPE: stat.S_IFREG,
    tarfile.LNKTYPE: stat.S_IFREG,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.DIRTYPE: stat.S_IFDIR,
}


class Writer:
    """Writes one archive to OUT; everything in it belongs to root. Not for use by several threads."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._inode = 0
        self._directories: set[PurePosixPath] = {PurePosixPath("/")}

    def add(self, path: str, mode: int, data: bytes = b"") -> None:
        """Add PATH (absolute) with the MODE of stat(2) and its DATA: a file's bytes, a link's target."""
        where = PurePosixPath("/") / path
        if stat.S_ISDIR(mode):
            self._directories.add(where)
        self._add_parents(where)
        self._record(str(where)[1:], mode, data)

    def file(self, path: str, data: bytes, executable: bool = False) -> None:
        """Add a regular file."""
        self.add(path, stat.S_IFREG | (0o755 if executable else 0o644), data)

    def tar(self, packed: Path, keep: Callable[[str], bool], prefix: str = "/") -> None:
        """Add the members of tar file PACKED whose absolute path KEEP likes, below PREFIX."""
        with tarfile.open(packed) as members:
            for member in members:
                path = "/" + member.name.removeprefix(".").strip("/")
                if member.type in TAR_TYPES and keep(path):
                    self.add(prefix + path, TAR_TYPES[member.type] | member.mode, _content(members, member))

    def tree(self, source: Path, path: str) -> None:
        """Add the host directory or file SOURCE as PATH."""
        if not source.is_dir():
            self._host_file(source, path)
            return
        for inside in sorted(source.rglob("*")):
            if "__pycache__" not in inside.parts:
                self._host_file(inside, f"{path}/{inside.relative_to(source)}")

    def close(self) -> None:
        """End the archive; OUT stays open, for the next one."""
        self._record("TRAILER!!!", 0, b"")

    def _host_file(self, source: Path, path: str) -> None:
        mode = source.lstat().st_mode
        if stat.S_ISLNK(mode):
            self.add(path, mode, str(source.readlink()).encode())
        elif stat.S_ISREG(mode):
            self.add(path, mode, source.read_bytes())
        elif stat.S_ISDIR(mode):
            self.add(path, mode)

    def _add_parents(self, where: PurePosixPath) -> None:
        for parent in reversed(where.parents):
            if parent not in self._directories:
                self._directories.add(parent)
                self._record(str(parent)[1:], stat.S_IFDIR | 0o755, b"")

    def _record(self, name: str, mode: int, data: bytes) -> None:
        self._inode += 1
        links = 2 if stat.S_ISDIR(mode) else 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        self._out.write(_padded(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded))
        self._out.write(_padded(data))


def _content(members: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.issym():
        return member.linkname.encode()
    opened = members.extractfile(member) if member.isfile() or member.islnk() else None
    return opened.read() if opened else b""


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
