# SPDX-License-Identifier: MIT
"""sysctl livepatch_op: the patches of a simulated hypervisor, which has none until a program adds some."""

from __future__ import annotations

from pyxc.abi import livepatch
from pyxc.abi.errno import XenErrno
from pyxc.abi.livepatch import LivepatchOp
from pyxc.sim.model.access import Refusal
from pyxc.sim.model.livepatches import Patch
from pyxc.sim.ops.call import Call, handles

_LIST_MOST = 1024
_WORD = 4


@handles(livepatch.LIVEPATCH_OP_LIST, livepatch.LIVEPATCH_OP_GET)
def livepatch_op(call: Call) -> int | None:
    """Which of the two is in the structure, and so is what the rest of it means."""
    if call["op"] == LivepatchOp.GET:
        _get(call.reading(livepatch.LIVEPATCH_OP_GET))
        return None
    if call["op"] == LivepatchOp.LIST:
        return _list(call.reading(livepatch.LIVEPATCH_OP_LIST))
    raise Refusal(XenErrno.EOPNOTSUPP)


def _get(call: Call) -> None:
    size = call["u.get.name.size"]
    if not 0 < size <= livepatch.XEN_LIVEPATCH_NAME_SIZE:
        raise Refusal(XenErrno.EINVAL)
    name = call.memory.read(call["u.get.name.name"], size)
    if name[-1]:
        raise Refusal(XenErrno.EINVAL)
    wanted = name.split(b"\0", 1)[0].decode("latin-1")
    found = next((patch for patch in call.xen.livepatches if patch.name == wanted), None)
    if found is None:
        raise Refusal(XenErrno.ENOENT)
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
