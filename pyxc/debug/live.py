# SPDX-License-Identifier: MIT
"""Virtual memory of a guest that runs on: a process whose page tables were looked at may end at any time."""

from __future__ import annotations

import time
from collections.abc import Callable

from pyxc import errors
from pyxc.debug.guest_memory import GuestMemory

_FRESH_S, _DOUBTFUL_S = 1.0, 0.05
"""How long page tables are believed, and how old they may be if an address is not mapped."""


class LiveVirtual:
    """Reads as one vcpu does, by page tables that are never older than a second. Threads: one at a time."""

    def __init__(self, memory: GuestMemory, vcpu: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory = memory
        self._vcpu = vcpu
        self._clock = clock
        self._since = clock()

    def read(self, address: int, size: int) -> bytes:
        """NotMapped and DecodeError as by present page tables."""
        self._refresh(_FRESH_S)
        try:
            return self._memory.read(self._vcpu, address, size)
        except (errors.NotMapped, errors.DecodeError):
            if not self._refresh(_DOUBTFUL_S):
                raise
        return self._memory.read(self._vcpu, address, size)

    def _refresh(self, age: float) -> bool:
        """Look again, if it was so long ago."""
        now = self._clock()
        if now - self._since < age:
            return False
        self._memory.refresh()
        self._since = now
        return True
