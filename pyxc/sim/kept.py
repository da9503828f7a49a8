# SPDX-License-Identifier: MIT
"""A simulated host in a file, which remembers from one program to the next: "sim:xen-4.17@FILE".

The file has the objects of the host, as pickle writes them, for this version of pyxc only. When it is read,
it may name classes of the simulator and plain containers only; still, only a file that nobody else can write
is read. One program at a time has the host; others wait until it closes the host, which also writes the file.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import pickle
import stat
import struct
import sys
import threading
from enum import EnumType
from typing import Any

from pyxc._core import PAGE_SIZE, SharedMemory
from pyxc.sim.hypervisor import Hypervisor
from pyxc.sim.link import SimLink
from pyxc.sim.model import lifecycle
from pyxc.sim.profiles import DEFAULT, named

_MAGIC = f"pyxc simulated host, Python {sys.version_info[0]}.{sys.version_info[1]}\n".encode()
_BYTES_MOST = 1 << 32
_OURS = ("pyxc.sim.", "pyxc.abi.", "pyxc.store.wire", "pyxc.store.permission", "pyxc.store.features")
_PLAIN = {
    "_operator": {"or_"},
    "_struct": {"Struct"},
    "array": {"_array_reconstructor", "array"},
    "builtins": {"bytearray", "complex", "dict", "frozenset", "list", "object", "range", "set", "tuple"},
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
    "copyreg": {"_reconstructor"},
    "enum": set[str](),
    "functools": {"partial"},
    "uuid": {"UUID", "SafeUUID"},
}


class KeptLink(SimLink):
    """A link to a host in a file, which is written when the link closes."""

    def __init__(self, hypervisor: Hypervisor, target: str, file: _File) -> None:
        super().__init__(hypervisor, hypervisor.hypercall, hypervisor.store, target)
        self._file: _File | None = file

    def close(self) -> None:
        super().close()
        file, self._file = self._file, None
        if file is not None:
            try:
                file.write(_pickled(self.hypervisor))
            finally:
                file.close()


def connect(target: str) -> KeptLink:
    """A link to the host in the file of "sim:PROFILE@FILE", which is booted if there is no such file.

    ValueError if the file is not such a host, or has another profile; PermissionError if others can write it.
    """
    name, _, path = target.partition("@")
    if not path:
        raise ValueError(f"{target!r} names no file: expected sim:PROFILE@FILE")
    profile = named(name)
    file = _File(path)
    try:
        data = file.read()
        if data:
            hypervisor = _unpickled(data, path)
        else:
            hypervisor = Hypervisor(profile)
            hypervisor.serve_devices()
            if not profile.dom0_op:
                hypervisor.run_linux()
        if name != DEFAULT and name != "sim:" and hypervisor.profile != profile:
            raise ValueError(f"{path} has a host of another profile than {name}")
        return KeptLink(hypervisor, target, file)
    except BaseException:
        file.close()
        raise


class _File:
    """The file, locked. It is replaced as a whole, so that it is never incomplete."""

    def __init__(self, path: str) -> None:
        self._path = path
        while True:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX)
                self._check()
                if self._is_current():
                    return
            except BaseException:
                os.close(self._fd)
                raise
            os.close(self._fd)  # another program wrote a new one while this one waited

    def _check(self) -> None:
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{self._path} is not a regular file")
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "it belongs to others, or others can write it", self._path)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        except FileNotFoundError:
            return False

    def read(self) -> bytes:
        if os.fstat(self._fd).st_size > _BYTES_MOST:
            raise ValueError(f"{self._path} is larger than any simulated host")
        with open(self._fd, "rb", closefd=False) as stream:
            return stream.read()

    def write(self, data: bytes) -> None:
        new = f"{self._path}.part"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as stream:
            stream.write(data)
        os.replace(new, self._path)

    def close(self) -> None:
        """This also removes a file in which nothing was written."""
        if os.fstat(self._fd).st_size == 0 and self._is_current():
            os.unlink(self._path)
        os.close(self._fd)


class _Writer(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, SharedMemory):
            return _memory, (value.frames, _contents(value))
        if isinstance(value, struct.Struct):
            return struct.Struct, (value.format,)
        if isinstance(value, _LOCK):
            return _lock, ()
        return NotImplemented


_LOCK = type(threading.RLock())


def _lock() -> Any:
    return threading.RLock()


def _contents(memory: SharedMemory) -> dict[int, bytes]:
    """Frames that are not all zero, in runs as the kernel keeps them."""
    found: dict[int, bytes] = {}
    at, end = 0, memory.frames * PAGE_SIZE
    while at < end:
        try:
            start = os.lseek(memory.fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            raise
        at = min(os.lseek(memory.fd, start, os.SEEK_HOLE), end)
        found[start // PAGE_SIZE] = os.pread(memory.fd, at - start, start)
    return found


def _memory(frames: int, contents: dict[int, bytes]) -> SharedMemory:
    memory = SharedMemory(frames)
    for frame, data in contents.items():
        os.pwrite(memory.fd, data, frame * PAGE_SIZE)
    return memory


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _method
        if module.startswith(_OURS):
            found = super().find_class(module, name)
            if getattr(found, "__module__", "").startswith(_OURS):
                return found
        elif name in _PLAIN.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a simulated host")


def _method(owner: Any, name: str) -> Any:
    """A method of the simulator's, or a member of an enum."""
    if isinstance(owner, EnumType):
        return owner.__members__[name]
    if name.startswith("__") or not type(owner).__module__.startswith("pyxc.sim."):
        raise pickle.UnpicklingError(f"{name} is not a method of a simulated host")
    return getattr(owner, name)


def _pickled(hypervisor: Any) -> bytes:
    stream = io.BytesIO()
    stream.write(_MAGIC)
    with hypervisor.lock:
        lifecycle.reap(hypervisor)
        _Writer(stream, pickle.HIGHEST_PROTOCOL).dump(hypervisor)
    return stream.getvalue()


def _unpickled(data: bytes, path: str) -> Hypervisor:
    if not data.startswith(_MAGIC):
        raise ValueError(f"{path} is not a simulated host of this Python: remove it to begin with a new one")
    try:
        found = _Reader(io.BytesIO(data[len(_MAGIC) :])).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError,
            ValueError, struct.error, MemoryError, OverflowError, RecursionError) as error:  # fmt: skip
        raise ValueError(f"{path} is damaged, or of another version of pyxc: {error}") from error
    if not isinstance(found, Hypervisor):
        raise ValueError(f"{path} is not a simulated host")
    return found
