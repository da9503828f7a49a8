# SPDX-License-Identifier: MIT
"""Flags that print as the names of the set bits."""

from __future__ import annotations

from enum import IntFlag


class Flags(IntFlag):
    """An IntFlag whose str() is its names: "PAUSED|BLOCKED", and "" when none is set.

    f"{flags:#x}" is still a number.
    """

    def __str__(self) -> str:
        return str(self.name or int(self) or "")

    def __format__(self, spec: str) -> str:
        return int.__format__(self, spec) if spec else str(self)
