# SPDX-License-Identifier: MIT
"""Live patches of the running hypervisor."""

from __future__ import annotations

import errno
from array import array
from typing import NamedTuple

from pyxc import arguments, errors
from pyxc.abi import livepatch
from pyxc.abi.livepatch import State
from pyxc.host.host import Host

_AT_ONCE = 64
_METADATA_BYTES = 1 << 16


class Status(NamedTuple):
    """The status of a patch. `error` is 0, or the errno of its last action; EAGAIN: still in progress."""

    state: State
    error: int

    @property
    def busy(self) -> bool:
        return self.error == errno.EAGAIN


class Livepatch(NamedTuple):
    """A patch in the list. `metadata` is its own description ("key=value"), None before Xen 4.14.

    Example:

    >>> [patch.name for patch in xen.livepatches.all()]
    []
    """

    name: str
    status: Status
    metadata: tuple[str, ...] | None


class Livepatches:
    """The patches that `xen-livepatch list` shows (sysctl livepatch_op; since Xen 4.7). Threads: safe to
    share.

    Unsupported in older releases and in a hypervisor that was built without it.
    """

    def __init__(self, xen: Host) -> None:
        self._xen = xen

    def all(self) -> list[Livepatch]:
        """All uploaded patches, in order. The list may change between two of its pieces."""
        found: list[Livepatch] = []
        while True:
            piece, remaining = self._piece(len(found))
            found += piece
            if not remaining or not piece:
                return found

    def status(self, name: str) -> Status:
        """The status of a patch. ENOENT: no such patch."""
        text = name.encode()
        arguments.natural("length of the name", len(text), livepatch.XEN_LIVEPATCH_NAME_SIZE - 1, 1)
        reply = self._xen.call(
            livepatch.LIVEPATCH_OP_GET, **{"u.get.name.name": text + b"\0", "u.get.name.size": len(text) + 1}
        )
        return _status(reply.field("u.get.status.state"), reply.field("u.get.status.rc"))

    def _piece(self, index: int) -> tuple[list[Livepatch], int]:
        """Patches from an index, and the number of those that follow."""
        told = self._xen.caller.has_field(livepatch.LIVEPATCH_OP_LIST, "u.list.metadata")
        status = livepatch.STATUS_STRUCT.at(self._xen.interface)
        fields: dict[str, int] = {
            "u.list.idx": index,
            "u.list.nr": _AT_ONCE,
            "u.list.status": _AT_ONCE * status.size,
            "u.list.name": _AT_ONCE * livepatch.XEN_LIVEPATCH_NAME_SIZE,
            "u.list.len": _AT_ONCE * 4,
        }
        if told:
            fields |= {"u.list.metadata": _METADATA_BYTES, "u.list.metadata_len": _AT_ONCE * 4}
        reply = self._xen.call(livepatch.LIVEPATCH_OP_LIST, **fields)
        count = _checked(reply.result)
        states = list(status.codec.iter_unpack(reply.buffers["u.list.status"]))[:count]
        lengths = self._xen.words32(reply.buffers["u.list.len"])[:count]
        names = _split(reply.buffers["u.list.name"], lengths)
        metadata: list[bytes] | list[None] = [None] * count
        if told:
            sizes = self._xen.words32(reply.buffers["u.list.metadata_len"])[:count]
            metadata = _split(reply.buffers["u.list.metadata"], sizes)
        patches = [
            Livepatch(_text(name), _status(*state), None if data is None else _lines(data))
            for name, state, data in zip(names, states, metadata)
        ]
        return patches, reply.field("u.list.nr")

    def __repr__(self) -> str:
        return f"<Livepatches of {self._xen.link.target}>"


def _checked(count: int) -> int:
    """The reported number of entries. DecodeError if the buffer has no space for them."""
    if count > _AT_ONCE:
        raise errors.DecodeError(f"the hypervisor reports {count} patches in a buffer for {_AT_ONCE}")
    return count


def _status(state: int, error: int) -> Status:
    try:
        return Status(State(state), -error)
    except ValueError as unknown:
        raise errors.DecodeError(f"the hypervisor reports a patch in the unknown state {state}") from unknown


def _split(data: bytes, lengths: array[int]) -> list[bytes]:
    """Consecutive pieces."""
    pieces, at = [], 0
    for length in lengths:
        pieces.append(data[at : at + length])
        at += length
    return pieces


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "replace")


def _lines(data: bytes) -> tuple[str, ...]:
    return tuple(_text(piece) for piece in data.split(b"\0") if piece)
