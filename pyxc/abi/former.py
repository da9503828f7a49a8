# SPDX-License-Identifier: MIT
"""What the structures and operations of today were in 2006: loaded before such a Xen alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def former(name: str) -> Callable[[], Any]:
    """What is called so in pyxc.abi.dom0_ops: the `before` of a row."""

    def find() -> Any:
        from pyxc.abi import dom0_ops

        return getattr(dom0_ops, name)

    return find
