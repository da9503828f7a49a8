# SPDX-License-Identifier: MIT
"""A few of Xen's performance counters, which really count."""

from __future__ import annotations

_HYPERCALLS = 64


class Counters:
    """How often each hypercall was made, and how many came in a multicall."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.hypercalls = [0] * _HYPERCALLS
        self.from_multicall = 0

    def count(self, number: int) -> None:
        """A hypercall was made."""
        self.hypercalls[number % _HYPERCALLS] += 1


class LockProfile:
    """When the lock profile was reset, and how often each lock had been taken then."""

    def __init__(self) -> None:
        self.since_ns = 0
        self.taken: dict[str, int] = {}
