# SPDX-License-Identifier: MIT
"""Several operations in one hypercall: a multicall of structures without buffers."""

from __future__ import annotations

from collections.abc import Sequence

from pyxc.abi.layout import Interface
from pyxc.abi.multicall import ENTRY_STRUCT
from pyxc.abi.operation import MULTICALL
from pyxc.call.plan import Plan
from pyxc.link.exchange import Exchange


def issue(
    exchange: Exchange, interface: Interface, asked: Sequence[tuple[Plan, bytes]]
) -> tuple[int, list[tuple[int, bytes]]]:
    """Issue operations that take a command and a structure, if any: each with its structure as bytes.

    Returns 0, with each one's result and its structure; or -errno of the multicall itself, with nothing.
    """
    entry = ENTRY_STRUCT.at(interface)
    words = b"".join(
        entry.pack({"op": plan.number, "args": (plan.before, 0, 0, 0, 0, 0)}) for plan, _ in asked
    )
    handle = entry.offsets["args"] + 8
    placements = tuple(
        (index * entry.size + handle, request) for index, (_, request) in enumerate(asked) if request
    )
    failed, answer, buffers = exchange(MULTICALL, words, placements, after=len(asked))
    if failed < 0:
        return failed, []
    found = iter(buffers)
    return 0, [
        (int(entry.unpack(answer, index * entry.size)["result"]), next(found) if request else b"")
        for index, (_, request) in enumerate(asked)
    ]
