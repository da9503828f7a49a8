# SPDX-License-Identifier: MIT
"""Initramfs archives (cpio, format newc), written without root from tar files and directories.

A dom0 image is a sequence of archives, which the kernel unpacks into one file system.
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
    """Writes one archive, in which root owns all files. Threads: for one at a time."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._inode = 0
        self._directories: set[PurePosixPath] = {PurePosixPath("/")}

    def add(self, path: str, mode: int, data: bytes = b"") -> None:
        """Add the absolute `path`. `mode` is that of stat(2), `data` the contents or the target of a link."""
        where = PurePosixPath("/") / path
        if stat.S_ISDIR(mode):
            self._directories.add(where)
        self._add_parents(where)
        self._record(str(where)[1:], mode, data)

    def file(self, path: str, data: bytes, executable: bool = False) -> None:
        """Add a regular file."""
        self.add(path, stat.S_IFREG | (0o755 if executable else 0o644), data)

    def tar(self, packed: Path, keep: Callable[[str], bool], prefix: str = "/") -> None:
        """Add below `prefix` the members of a tar file for whose absolute path `keep` returns True."""
        with tarfile.open(packed) as members:
            for member in members:
                path = "/" + member.name.removeprefix(".").strip("/")
                if member.type in TAR_TYPES and keep(path):
                    self.add(prefix + path, TAR_TYPES[member.type] | member.mode, _content(members, member))

    def tree(self, source: Path, path: str) -> None:
        """Add the directory or file `source` of this machine as `path`."""
        if not source.is_dir():
            self._host_file(source, path)
            return
        for inside in sorted(source.rglob("*")):
            if "__pycache__" not in inside.parts:
                self._host_file(inside, f"{path}/{inside.relative_to(source)}")

    def close(self) -> None:
        """End the archive. The file stays open for the next archive."""
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
