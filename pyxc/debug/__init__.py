# SPDX-License-Identifier: MIT
"""The inside of a running guest for debuggers: GDB, drgn, and a server of its memory for other machines."""

from __future__ import annotations

from pyxc.debug.drgn_program import drgn_program
from pyxc.debug.gdb import GdbSession
from pyxc.debug.guest_memory import DomainMemory
from pyxc.debug.memory_client import RemoteMemory, connect_memory
from pyxc.debug.memory_server import MemorySession
from pyxc.debug.standard_ends import StandardEnds

__all__ = [
    "DomainMemory",
    "GdbSession",
    "MemorySession",
    "RemoteMemory",
    "StandardEnds",
    "connect_memory",
    "drgn_program",
]
