# SPDX-License-Identifier: MIT
"""Live patches: of none, since there is no other to be had."""

from __future__ import annotations

from typing import Any

from callscripts import Script, Volatile
from pyxc.abi import livepatch
from pyxc.abi.livepatch import XEN_LIVEPATCH_NAME_SIZE

VOLATILE = Volatile(fields=("u.list.version",))


SIZES = {"status": 8, "name": XEN_LIVEPATCH_NAME_SIZE, "len": 4, "metadata": 1024, "metadata_len": 4}


def run(script: Script) -> None:
    if not script.xen.caller.supports(livepatch.LIVEPATCH_OP_LIST):
        return
    script.step("success", livepatch.LIVEPATCH_OP_LIST, **room(script, 4))
    script.step("size", livepatch.LIVEPATCH_OP_LIST)
    script.step("beyond the last", livepatch.LIVEPATCH_OP_LIST, **room(script, 4), **{"u.list.idx": 5})
    script.step("oversized list", livepatch.LIVEPATCH_OP_LIST, **{"u.list.nr": 1025})
    named(script, "unknown", b"nope\0")
    named(script, "no name", b"")
    named(script, "no NUL", b"nope")
    named(script, "oversized name", bytes(XEN_LIVEPATCH_NAME_SIZE + 1))


def room(script: Script, count: int) -> dict[str, Any]:
    """Buffers for a list, of which older releases have fewer."""
    known = livepatch.LIST_STRUCT.at(script.xen.interface).index
    buffers = {f"u.list.{name}": size * count for name, size in SIZES.items()}
    return {"u.list.nr": count, **{name: size for name, size in buffers.items() if name in known}}


def named(script: Script, case: str, name: bytes) -> None:
    fields = {"u.get.name.name": name or 0, "u.get.name.size": len(name)}
    script.step(case, livepatch.LIVEPATCH_OP_GET, **fields)
