# SPDX-License-Identifier: MIT
"""sysctl livepatch_op: the patches of a simulated hypervisor, which has none until a program adds some."""

from __future__ import annotations

from pyxc.abi import livepatch
from pyxc.abi.errno import XenErrno
from pyxc.abi.livepatch import Action, LivepatchOp, State
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.livepatches import Patch
from pyxc.sim.ops.call import Call, handles

_LIST_MOST = 1024
_WORD = 4
_ELF = b"\x7fELF"
"""All that a simulated hypervisor wants of a patch is that it begins with it."""


@handles(
    livepatch.LIVEPATCH_OP_LIST, livepatch.LIVEPATCH_OP_GET, livepatch.LIVEPATCH_OP_UPLOAD,
    livepatch.LIVEPATCH_OP_ACTION,
)  # fmt: skip
def livepatch_op(call: Call) -> int | None:
    """Which of them is in the structure, and so is what the rest of it means."""
    if call["op"] == LivepatchOp.GET:
        _get(call.reading(livepatch.LIVEPATCH_OP_GET))
        return None
    if call["op"] == LivepatchOp.UPLOAD:
        _upload(call.reading(livepatch.LIVEPATCH_OP_UPLOAD))
        return None
    if call["op"] == LivepatchOp.ACTION:
        _act(call.reading(livepatch.LIVEPATCH_OP_ACTION))
        return None
    if call["op"] == LivepatchOp.LIST:
        return _list(call.reading(livepatch.LIVEPATCH_OP_LIST))
    raise Refusal(XenErrno.EOPNOTSUPP)


def _name(call: Call, member: str) -> str:
    size = call[f"u.{member}.name.size"]
    if not 0 < size <= livepatch.XEN_LIVEPATCH_NAME_SIZE:
        raise Refusal(XenErrno.EINVAL)
    name = call.memory.read(call[f"u.{member}.name.name"], size)
    if name[-1]:
        raise Refusal(XenErrno.EINVAL)
    return name.split(b"\0", 1)[0].decode("latin-1")


def _found(call: Call, name: str) -> Patch:
    found = next((patch for patch in call.xen.livepatches if patch.name == name), None)
    if found is None:
        raise Refusal(XenErrno.ENOENT)
    return found


def _upload(call: Call) -> None:
    name, size = _name(call, "upload"), call["u.upload.size"]
    if not size:
        raise Refusal(XenErrno.EINVAL)
    if size > livepatch.PAYLOAD_BYTES_MOST:
        raise Refusal(XenErrno.EINVAL)
    if any(patch.name == name for patch in call.xen.livepatches):
        raise Refusal(XenErrno.EEXIST)
    if not call.memory.read(call["u.upload.payload"], size).startswith(_ELF):
        raise Refusal(XenErrno.EINVAL)
    call.xen.livepatches.append(Patch(name, State.CHECKED))


def _act(call: Call) -> None:
    """Carried out at once. What is as it should be already stays so, without an error."""
    found = _found(call, _name(call, "action"))
    patches, last = call.xen.livepatches, max(patch.applied for patch in call.xen.livepatches)
    changed, action = found, call["u.action.cmd"]
    if action == Action.UNLOAD:
        if found.state is State.APPLIED:
            raise Refusal(XenErrno.EINVAL)
        patches.remove(found)
        return
    if action == Action.REVERT:
        if found.state is State.APPLIED and found.applied < last:
            raise Refusal(XenErrno.EBUSY)
        changed = found._replace(state=State.CHECKED, applied=0)
    elif action in (Action.APPLY, Action.REPLACE):
        if found.state is State.CHECKED:
            changed = found._replace(state=State.APPLIED, applied=last + 1)
        if action == Action.REPLACE:
            patches[:] = [patch._replace(state=State.CHECKED, applied=0) for patch in patches]
            found = _found(call, found.name)
    else:
        raise Refusal(XenErrno.EOPNOTSUPP)
    patches[patches.index(found)] = changed._replace(error=0)


def _get(call: Call) -> None:
    found = _found(call, _name(call, "get"))
    call.answer(**{"u.get.status.state": int(found.state), "u.get.status.rc": found.error})


def _list(call: Call) -> int:
    """Patches from an index on; returns how many were written, and in `nr` how many are left."""
    patches = call.xen.livepatches
    first, room = call["u.list.idx"], call["u.list.nr"]
    if room > _LIST_MOST:
        raise Refusal(XenErrno.E2BIG)
    if patches and first >= len(patches):
        raise Refusal(XenErrno.EINVAL)
    chosen = patches[first : first + room] if room else patches
    told = {
        "u.list.name_total_size": sum(len(patch.name) + 1 for patch in chosen),
        "u.list.metadata_total_size": sum(len(patch.metadata) for patch in chosen),
    }
    if room:
        _write(call, chosen)
    sizes = {name: size for name, size in told.items() if name in call.layout.index}
    left = len(patches) - (first + len(chosen) if room and patches else 0)
    call.answer(**sizes, **{"u.list.nr": left, "u.list.version": len(patches)})
    return len(chosen) if room else 0


def _write(call: Call, patches: list[Patch]) -> None:
    order = call.xen.interface.byteorder
    status = call.xen.layout(livepatch.STATUS_STRUCT)
    lists = {
        "status": b"".join(status.pack({"state": int(p.state), "rc": p.error}) for p in patches),
        "name": b"".join(p.name.encode() + b"\0" for p in patches),
        "len": b"".join((len(p.name) + 1).to_bytes(_WORD, order) for p in patches),
        "metadata": b"".join(p.metadata for p in patches),
        "metadata_len": b"".join(len(p.metadata).to_bytes(_WORD, order) for p in patches),
    }
    for name, data in lists.items():
        if f"u.list.{name}" in call.layout.index:
            call.memory.write(call[f"u.list.{name}"], data)
