# SPDX-License-Identifier: MIT
"""hypfs_op: a small tree with every type of entry, of which one can be written."""

from __future__ import annotations

from pyxc.abi import hypfs
from pyxc.abi.errno import XenErrno
from pyxc.abi.hypfs import XEN_HYPFS_MAX_PATHLEN, Type
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.hypfs import Directory, Leaf
from pyxc.sim.ops.call import Call, handles

_VERSION = 1
_ALIGNED = 4


@handles(hypfs.GET_VERSION)
def get_version(call: Call) -> int:
    return -XenErrno.EINVAL if call.address else _VERSION


@handles(hypfs.READ)
def read(call: Call) -> None:
    """The entry's head, even if the buffer is too small for the contents (ENOBUFS)."""
    entry = _find(call, _path(call))
    head = call.xen.layout(hypfs.DIRENTRY_STRUCT)
    data = _listing(call, entry) if isinstance(entry, dict) else entry.data
    if call["data_size"] < head.size:
        raise Refusal(XenErrno.EINVAL)
    call.memory.write(call["data"], head.pack(_head(entry, data)))
    if call["data_size"] < head.size + len(data):
        raise Refusal(XenErrno.ENOBUFS)
    call.memory.write(call["data"] + head.size, data)


@handles(hypfs.WRITE_CONTENTS)
def write_contents(call: Call) -> None:
    entry = _find(call, _path(call))
    if isinstance(entry, dict) or not entry.room:
        raise Refusal(XenErrno.EACCES)
    if entry.type is Type.BOOL and call["data_size"] != len(entry.data):
        raise Refusal(XenErrno.EDOM)
    if call["data_size"] > entry.room:
        raise Refusal(XenErrno.ENOSPC)
    data = call.memory.read(call["data"], call["data_size"])
    if entry.type is Type.STRING and data.find(b"\0") != len(data) - 1:
        raise Refusal(XenErrno.EINVAL)
    entry.data = data


def _path(call: Call) -> str:
    """The path, whose only NUL is its last byte."""
    if call["path_size"] > XEN_HYPFS_MAX_PATHLEN:
        raise Refusal(XenErrno.EINVAL)
    path = call.memory.read(call["path"], call["path_size"])
    if path.find(b"\0") != len(path) - 1:
        raise Refusal(XenErrno.EINVAL)
    return path[:-1].decode("latin-1")


def _find(call: Call, path: str) -> Leaf | Directory:
    if not path.startswith("/"):
        raise Refusal(XenErrno.EINVAL if call.xen.profile.since(4, 15) else XenErrno.ENOENT)
    here: Leaf | Directory = call.xen.hypfs
    rest = path[1:]
    while rest:
        name, slash, rest = rest.partition("/")
        if isinstance(here, Leaf):
            raise Refusal(XenErrno.ENOENT)
        found = here.get(name)
        if found is None:
            raise Refusal(XenErrno.ENOENT)
        here = found
        if slash and not rest and isinstance(here, Leaf):
            raise Refusal(XenErrno.ENOENT)
    return here


def _head(entry: Leaf | Directory, data: bytes) -> dict[str, int]:
    if isinstance(entry, dict):
        return {"type": int(Type.DIR), "content_len": len(data)}
    return {
        "type": int(entry.type),
        "encoding": int(entry.encoding),
        "content_len": len(data),
        "max_write_len": entry.room,
    }


def _listing(call: Call, directory: Directory) -> bytes:
    """The entries of a directory: heads, each with the way to the next one, and names."""
    layout = call.xen.layout(hypfs.DIRLISTENTRY_STRUCT)
    name_at = layout.offsets["name"]
    pieces = []
    names = sorted(directory)
    for name in names:
        entry = directory[name]
        size = -(-(name_at + len(name) + 1) // _ALIGNED) * _ALIGNED
        data = _listing(call, entry) if isinstance(entry, dict) else entry.data
        fields: dict[str, int | bytes] = {f"e.{key}": value for key, value in _head(entry, data).items()}
        fields["off_next"] = 0 if name == names[-1] else size
        piece = layout.pack(fields)[:name_at] + name.encode()
        pieces.append(piece.ljust(size, b"\0"))
    return b"".join(pieces)
