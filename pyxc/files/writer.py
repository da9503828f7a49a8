# SPDX-License-Identifier: MIT
"""Writes files that say where they come from: see pyxc.files.provenance for what they say."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import time
import warnings
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Any, Literal

import pyxc
from pyxc.files import xattrs
from pyxc.files.provenance import DIGEST, ORIGIN, SIDECAR, Digest, Origin, State, sidecar
from pyxc.files.xattrs import Attributes

PART = ".part"
"""What the name of an unfinished file has more."""
_MODE = 0o600


KeepName = Literal["attributes", "required", "sidecar", "none"]
"""Values of Keep, as options name them."""


class Keep(Enum):
    """Where provenance goes: into attributes if that can be, or surely; beside the file; nowhere."""

    ATTRIBUTES = "attributes"
    REQUIRED = "required"
    SIDECAR = "sidecar"
    NONE = "none"


class ProvenanceFile:
    """A file that pyxc writes. It has its name only once it is complete; then it replaces one of that name.

    with ProvenanceFile("web1.core", "core") as file:
        file.stream.write(data)

    Until then it is NAME.part, marked as partial; it stays so when the block fails or the process dies. Only
    its owner may read it. What is written and marked is the open file, whatever becomes of its name. With
    ATTRIBUTES, a file system that cannot keep them is warned of once (RuntimeWarning).

    FileExistsError when there is a NAME.part, or something of that name that is no ordinary file; OSError;
    with REQUIRED also what Attributes.set() raises. Threads: of one.
    """

    def __init__(
        self, path: str | os.PathLike[str], kind: str, *, keep: Keep = Keep.ATTRIBUTES, **about: Any
    ) -> None:
        """`about` are more fields of Origin."""
        self.path = os.fspath(path)
        self._keep = keep
        host = os.uname().nodename
        self.origin = Origin(
            kind, State.PARTIAL, f"pyxc {pyxc.__version__}", host, started_s=int(time.time())
        )._replace(**about)
        directory, self._name = os.path.split(self.path)
        self._directory = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._raw = self._create()
        except BaseException:
            os.close(self._directory)
            raise
        self.stream = io.BufferedWriter(self._raw)

    def _create(self) -> _HashedFile:
        _check_replaceable(self._name, self._directory, self.path)
        part = self._name + PART
        try:
            fd = self._open_new(part)
        except FileExistsError as error:
            text = "somebody writes it at this moment, or did not come to the end; then remove it"
            raise FileExistsError(error.errno, text, self.path + PART) from error
        raw = _HashedFile(fd)
        self._attributes = Attributes(fd, self.path)
        try:
            os.fchmod(fd, _MODE)
            self._mark(ORIGIN, self.origin.encode(), xattrs.CREATE)
        except BaseException:
            os.unlink(part, dir_fd=self._directory)
            raw.close()
            raise
        return raw

    def note(self, **about: Any) -> None:
        """Fields of Origin that have become known."""
        self.origin = self.origin._replace(**about)

    def complete(self) -> None:
        """Bring it to the disk, mark it as complete and give it its name. Does nothing once it is closed."""
        if self.stream.closed:
            return
        try:
            self._finish()
        finally:
            self.close()

    def _finish(self) -> None:
        self.stream.flush()
        fd = self._raw.fileno()
        os.fsync(fd)
        status = os.fstat(fd)
        digest = Digest(self._raw.sha256, status.st_size, status.st_mtime_ns)
        self.note(state=State.COMPLETE, ended_s=int(time.time()), size_bytes=status.st_size)
        self._mark(DIGEST, digest.encode())
        self._mark(ORIGIN, self.origin.encode())
        os.fsync(fd)
        self._place_sidecar(digest)
        self._rename(self._name + PART, self._name)
        os.fsync(self._directory)

    def _rename(self, name: str, new: str) -> None:
        os.rename(name, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def close(self) -> None:
        """Leave it as it is, unfinished."""
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
            self.stream.close()

    def _mark(self, name: str, value: bytes, flags: int = 0) -> None:
        """Set an attribute. Where that fails the file gets none, for half of them would be a lie."""
        if self._keep not in (Keep.ATTRIBUTES, Keep.REQUIRED):
            return
        try:
            self._attributes.set(name, value, flags)
        except OSError as error:
            if self._keep is Keep.REQUIRED:
                raise
            self._keep = Keep.NONE
            for attribute in (ORIGIN, DIGEST):
                with suppress(OSError):
                    self._attributes.remove(attribute)
            text = f"{self.path} will not say where it comes from: {error.strerror}"
            warnings.warn(text, RuntimeWarning, stacklevel=4)

    def _place_sidecar(self, digest: Digest) -> None:
        """Put provenance beside the file, or take away what is there, which is about the file replaced."""
        name, part = self._name + SIDECAR, self._name + SIDECAR + PART
        if self._keep is not Keep.SIDECAR:
            self._unlink(name)
            return
        self._unlink(part)
        with open(self._open_new(part), "wb") as file:
            file.write(sidecar(self.origin, digest))
            file.flush()
            os.fsync(file.fileno())
        self._rename(part, name)

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory)

    def _open_new(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(name, flags, _MODE, dir_fd=self._directory)

    def __enter__(self) -> ProvenanceFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.complete()
        else:
            self.close()


class _HashedFile(io.RawIOBase):
    """An open file that is only written, from the beginning to the end, and its SHA-256."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any, /) -> int:
        written = os.write(self._fd, data)
        self._digest.update(memoryview(data)[:written])
        return written

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._fd)


def _check_replaceable(name: str, directory: int, path: str) -> None:
    """What is replaced must be an ordinary file: renamed onto a device, a file would take its place."""
    if name in ("", ".", ".."):
        raise ValueError(f"{path!r} is not the name of a file")
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "it is there and no ordinary file", path)
