# SPDX-License-Identifier: MIT
"""The live patches of a simulated hypervisor, which has none until a program adds some."""

from __future__ import annotations

from typing import NamedTuple

from pyxc.abi.livepatch import State


class Patch(NamedTuple):
    """A patch; `error` is the (negative) result of the last action on it, `applied` numbers those applied."""

    name: str
    state: State = State.APPLIED
    error: int = 0
    metadata: bytes = b""
    applied: int = 0
