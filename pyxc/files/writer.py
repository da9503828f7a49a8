# SPDX-License-Identifier: MIT
"""Writes files with provenance: see pyxc.files.provenance."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from types import TracebackType
from typing import Any, Literal

import pyxc
from pyxc.errors import DecodeError, Error
from pyxc.files import xattrs
from pyxc.files.opened import open_checked
from pyxc.files.provenance import DIGEST, ORIGIN, SIDECAR, Digest, Origin, State, sidecar
from pyxc.files.xattrs import Attributes

PART = ".part"
"""The suffix of an unfinished file's name."""
_MODE = 0o600
_HEAD_BYTES = 64
_BUFFER_BYTES = 1 << 13
"""The most that a killed process leaves unwritten. Python's own number grows with its versions."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a full file system."""
_PAGE = 4096
_ZERO_PAGE = bytes(_PAGE)
_ZEROS = memoryview(bytes(1 << 20))
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)

Recognize = Callable[[bytes], bool]
"""Whether a file of the kind can begin with these 64 bytes."""

KeepName = Literal["attributes", "required", "sidecar", "none"]
"""The names of Keep in options."""


class Keep(Enum):
    """Where to record provenance: in attributes, optionally or required; in a second file; nowhere."""

    ATTRIBUTES = "attributes"
    REQUIRED = "required"
    SIDECAR = "sidecar"
    NONE = "none"


class ProvenanceFile:
    """A file that pyxc writes. It gets its name when it is complete, and then replaces an existing file.

    with ProvenanceFile("web1.core", "core") as file:
        file.stream.write(data)

    Until then it is NAME.part, marked as partial; it remains if the block fails or the process dies, and the
    next file of this name replaces it. Only its owner may read it. The open file is written and marked, even
    if its name changes. With ATTRIBUTES there is one RuntimeWarning if the file system does not support them.

    An existing file is replaced if it has the same `kind`, according to its attribute or to `recognize`, or
    if it is empty; with `replace` whatever its contents. FileExistsError for another file, for a file that is
    not regular, and while another process writes NAME.part. OSError; with REQUIRED also the errors of
    Attributes.set(). Threads: one at a time.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        kind: str,
        *,
        keep: Keep = Keep.ATTRIBUTES,
        recognize: Recognize | None = None,
        replace: bool = False,
        **about: Any,
    ) -> None:
        """`about` are further fields of Origin."""
        self.path = os.fspath(path)
        self._keep = keep
        self._recognize = recognize
        self._replace = replace
        host = os.uname().nodename
        self.origin = Origin(
            kind, State.PARTIAL, f"pyxc {pyxc.__version__}", host, started_s=int(time.time())
        )._replace(**about)
        self._named = False
        directory, self._name = os.path.split(self.path)
        self._directory = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._raw = self._create()
        except BaseException:
            os.close(self._directory)
            raise
        self.stream = io.BufferedWriter(self._raw, _BUFFER_BYTES)

    def _create(self) -> _HashedFile:
        if self._name in ("", ".", ".."):
            raise ValueError(f"{self.path!r} is not the name of a file")
        self._check_replaceable(self._name, self.path)
        part = self._name + PART
        self._remove_left(part, self.path + PART)
        fd = self._open_new(part)
        raw = _HashedFile(fd)
        self._attributes = Attributes(fd, self.path)
        try:
            self._lock(fd, self.path + PART)
            os.fchmod(fd, _MODE)
            self._mark(ORIGIN, self.origin.encode(), xattrs.CREATE)
        except BaseException:
            if self._is_called(part, fd):
                os.unlink(part, dir_fd=self._directory)
            raw.close()
            raise
        return raw

    def _check_replaceable(self, name: str, path: str) -> None:
        """FileExistsError for a file of another kind. Only a regular file is opened."""
        fd = self._open_regular(name, path)
        if fd is None:
            return
        try:
            if not self._replace and not self._is_of_kind(fd, path):
                raise FileExistsError(errno.EEXIST, f"exists and is not a {self.origin.kind} file", path)
        finally:
            os.close(fd)

    def _remove_left(self, part: str, path: str) -> None:
        """Remove the unfinished file of a previous writer. FileExistsError while that still runs."""
        fd = self._open_regular(part, path)
        if fd is None:
            return
        try:
            if not self._replace and not self._is_of_kind(fd, path):
                text = f"exists and is not the beginning of a {self.origin.kind} file"
                raise FileExistsError(errno.EEXIST, text, path)
            self._lock(fd, path)
            self._unlink(part)
        finally:
            os.close(fd)

    def _open_regular(self, name: str, path: str) -> int | None:
        """Open a regular file for checks; None if there is no file of that name."""

        def check(mode: int) -> None:
            if not stat.S_ISREG(mode):
                raise FileExistsError(errno.EEXIST, "exists and is not a regular file", path)

        try:
            return open_checked(name, check, flags=os.O_RDONLY | os.O_NOFOLLOW, directory=self._directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _named(error, path) from error

    def _is_of_kind(self, fd: int, path: str) -> bool:
        """Whether an open file has this kind, according to its attribute, or else its contents."""
        with suppress(OSError, DecodeError):
            said = Attributes(fd, path).get(ORIGIN)
            if said is not None:
                return Origin.decode(said).kind == self.origin.kind
        head = os.pread(fd, _HEAD_BYTES, 0)
        return not head or (self._recognize is not None and self._recognize(head))

    def _lock(self, fd: int, path: str) -> None:
        """Lock it until the file is closed or the process ends, if the file system has locks.

        Between the creation of a file and its lock, another writer may have treated it as abandoned.
        """
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            raise _busy(path) if isinstance(error, BlockingIOError) else _named(error, path) from error
        if not self._is_called(self._name + PART, fd):
            raise _busy(path)

    def _is_called(self, name: str, fd: int) -> bool:
        """Whether an open file still has this name."""
        try:
            named = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(fd))

    def write_sparse(self, data: bytes) -> None:
        """Write whole pages; those of zeros take no space on the disk."""
        view = memoryview(data)
        start = 0
        while start < len(data):
            stop = start + _PAGE
            zero = data[start:stop] == _ZERO_PAGE
            while stop < len(data) and (data[stop : stop + _PAGE] == _ZERO_PAGE) == zero:
                stop += _PAGE
            if zero:
                self.skip(stop - start)
            else:
                self.stream.write(view[start:stop])
            start = stop

    def skip(self, size: int) -> None:
        """Write zeros, which take no space on the disk."""
        self.stream.flush()
        self._raw.skip(size)

    def check_space(self, size: int) -> None:
        """OSError (ENOSPC) if the file system has fewer free bytes."""
        free = os.fstatvfs(self._raw.fileno())
        blocks = free.f_bfree if os.geteuid() == 0 else free.f_bavail
        if free.f_blocks and blocks * free.f_frsize < size:
            text = f"{_mib(size)} MiB are needed, and {_mib(blocks * free.f_frsize)} MiB are free"
            raise OSError(errno.ENOSPC, text, self.path)

    def note(self, **about: Any) -> None:
        """Set further fields of Origin."""
        self.origin = self.origin._replace(**about)

    def complete(self) -> None:
        """Write it to the disk, mark it as complete and rename it. Does nothing after close()."""
        if self.stream.closed:
            return
        try:
            self._finish()
        finally:
            self.close()

    def _finish(self) -> None:
        self.stream.flush()
        fd = self._raw.fileno()
        os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR))  # it may end with zeros that were skipped
        os.fsync(fd)
        status = os.fstat(fd)
        digest = Digest(self._raw.sha256, status.st_size, status.st_mtime_ns)
        self.note(state=State.COMPLETE, ended_s=int(time.time()), size_bytes=status.st_size)
        self._mark(DIGEST, digest.encode())
        self._mark(ORIGIN, self.origin.encode())
        os.fsync(fd)
        self._place_sidecar(digest)
        self._rename(self._name + PART, self._name)
        self._named = True
        os.fsync(self._directory)

    def _rename(self, name: str, new: str) -> None:
        os.rename(name, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def close(self) -> None:
        """Close it unfinished; remove it if nothing was written."""
        if self._directory < 0:
            return
        with suppress(OSError):
            self.stream.close()
        if self._raw.empty and not self._named:
            self._unlink(self._name + PART)
        os.close(self._directory)
        self._directory = -1

    @contextmanager
    def discarded_if_full(self) -> Iterator[None]:
        """Of a file for which there was not enough space, nothing is kept."""
        try:
            yield
        except OSError as error:
            if error.errno in _NO_SPACE and not isinstance(error, Error):
                self.discard()
            raise

    def discard(self) -> None:
        """Remove it, unfinished."""
        if self._directory >= 0:
            self._unlink(self._name + PART)
        self.close()

    def _mark(self, name: str, value: bytes, flags: int = 0) -> None:
        """Set an attribute. If that fails the file gets none, because some without the others would
        mislead."""
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
            text = f"the provenance of {self.path} cannot be recorded: {error.strerror}"
            warnings.warn(text, RuntimeWarning, stacklevel=4)

    def _place_sidecar(self, digest: Digest) -> None:
        """Write the second file, or remove an old one, which is about the replaced file."""
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
        try:
            return os.open(name, flags, _MODE, dir_fd=self._directory)
        except OSError as error:
            raise _named(error, os.path.join(os.path.dirname(self.path), name)) from error

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
    """An open file that is written sequentially, with its SHA-256.

    `failed` is the errno of the first failed write, or 0: later writes would leave a gap, so they are
    refused.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._digest = hashlib.sha256()
        self.failed = 0
        self.empty = True

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any, /) -> int:
        if self.failed:
            raise OSError(self.failed, os.strerror(self.failed))
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self.failed = error.errno or errno.EIO
            raise
        self.empty = self.empty and not written
        self._digest.update(memoryview(data)[:written])
        return written

    def skip(self, size: int) -> None:
        """Zeros, which are hashed but not written."""
        os.lseek(self._fd, size, os.SEEK_CUR)
        while size:
            piece = _ZEROS[:size]
            self._digest.update(piece)
            size -= len(piece)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._fd)


def _named(error: OSError, path: str) -> OSError:
    """The same error with the path that the caller knows."""
    return OSError(error.errno or errno.EIO, error.strerror or "", path)


def _busy(path: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "is being written by another process", path)


def _mib(size: int) -> int:
    return size >> 20
