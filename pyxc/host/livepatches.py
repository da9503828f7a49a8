# SPDX-License-Identifier: MIT
"""Live patches of the running hypervisor."""

from __future__ import annotations

import errno
import time
from array import array
from contextlib import suppress
from typing import NamedTuple

from pyxc import arguments, errors, undoing
from pyxc.abi import livepatch
from pyxc.abi.livepatch import Action, State
from pyxc.host.host import Host

_AT_ONCE = 64
_METADATA_BYTES = 1 << 16
_WAIT_S = 30.0
_LOOK_S = 0.05


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
        reply = self._xen.call(livepatch.LIVEPATCH_OP_GET, **_named("get", name))
        return _status(reply.field("u.get.status.state"), reply.field("u.get.status.rc"))

    def upload(self, name: str, payload: bytes) -> None:
        r"""Upload a patch, the ELF file that livepatch-build made; it takes effect with apply().

        Xen checks that the patch is for this build of it (EINVAL), and that its name is new (EEXIST). Up to 2
        MiB.

        Example:

        >>> xen.livepatches.upload("xsa-1", b"\x7fELF...")     # what a simulated Xen takes for a patch
        >>> xen.livepatches.apply("xsa-1")
        >>> xen.livepatches.status("xsa-1").state
        <State.APPLIED: 2>
        """
        arguments.natural("size of the patch", len(payload), livepatch.PAYLOAD_BYTES_MOST, 1)
        fields = {"u.upload.size": len(payload), "u.upload.payload": payload}
        self._xen.call(livepatch.LIVEPATCH_OP_UPLOAD, **_named("upload", name), **fields)

    def load(self, name: str, payload: bytes, *, nodeps: bool = False) -> None:
        r"""upload() and apply(), both or neither: a patch that cannot be applied is unloaded again.

        Example:

        >>> xen.livepatches.load("xsa-2", b"\x7fELF...")
        >>> xen.livepatches.status("xsa-2").state
        <State.APPLIED: 2>
        """
        before = {patch.name for patch in self.all()}

        def upload() -> str:
            self.upload(name, payload)
            return name

        left = f"the live patch {name} is left; `pyxc livepatch list` shows its state"
        with undoing.made(upload, self._withdraw, lambda: {name} - before, left):
            self.apply(name, nodeps=nodeps)

    def apply(self, name: str, *, nodeps: bool = False, limit_ns: int = 0) -> None:
        """Apply an uploaded patch, and wait until that is done. A patch that is applied stays so.

        Xen stops all cpus to do it, for up to `limit_ns` (0: its own limit, 30 ms), and fails with EBUSY if
        it cannot stop them in that time. `nodeps` also applies a patch that was made for another stack of
        patches (since Xen 4.14). TimeoutError if Xen is still busy after 30 seconds.
        """
        self._act(name, Action.APPLY, limit_ns, livepatch.LIVEPATCH_ACTION_APPLY_NODEPS if nodeps else 0)

    def replace(self, name: str, *, limit_ns: int = 0) -> None:
        """Revert all applied patches and apply this one, in one step. See apply()."""
        self._act(name, Action.REPLACE, limit_ns)

    def revert(self, name: str, *, limit_ns: int = 0) -> None:
        """Undo apply(), of the patch that was applied last. A patch that is not applied stays so."""
        self._act(name, Action.REVERT, limit_ns)

    def unload(self, name: str) -> None:
        """Forget a patch that is not applied. EINVAL if it is."""
        self._act(name, Action.UNLOAD)

    def _withdraw(self, name: str) -> None:
        """Unload a patch, reverted if it was applied meanwhile."""
        try:
            status = self.status(name)
        except errors.HypercallError as error:
            if error.errno != errno.ENOENT:
                raise
            return
        if status.busy:
            with suppress(errors.HypercallError):
                self._wait(name)
        if self.status(name).state is State.APPLIED:
            self.revert(name)
        self.unload(name)

    def _act(self, name: str, action: Action, limit_ns: int = 0, flags: int = 0) -> None:
        arguments.natural("limit_ns", limit_ns, 2**32 - 1)
        fields = {"u.action.cmd": int(action), "u.action.timeout": limit_ns}
        if flags:
            if not self._xen.caller.has_field(livepatch.LIVEPATCH_OP_ACTION, "u.action.flags"):
                hint = "only Xen 4.14 and later can ignore the patches below one"
                raise errors.Unsupported(errno.ENOSYS, livepatch.LIVEPATCH_OP_ACTION.full_name, hint=hint)
            fields["u.action.flags"] = flags
        self._xen.call(livepatch.LIVEPATCH_OP_ACTION, **_named("action", name), **fields)
        if action is not Action.UNLOAD:
            self._wait(name)

    def _wait(self, name: str) -> None:
        deadline = time.monotonic() + _WAIT_S
        while (status := self.status(name)).busy:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"Xen is still busy with the live patch {name} after {_WAIT_S:g} s")
            time.sleep(_LOOK_S)
        if status.error:
            raise self._xen.caller.error(livepatch.LIVEPATCH_OP_ACTION, status.error, None)

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


def _named(member: str, name: str) -> dict[str, int | bytes]:
    """The fields for the name of a patch, in a member of the union."""
    text = name.encode()
    arguments.natural("length of the name", len(text), livepatch.XEN_LIVEPATCH_NAME_SIZE - 1, 1)
    return {f"u.{member}.name.name": text + b"\0", f"u.{member}.name.size": len(text) + 1}


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
