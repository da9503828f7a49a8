# SPDX-License-Identifier: MIT
"""Virtual memory of a guest that changes its page tables while it is read."""

from __future__ import annotations

import pytest
from hosts import Host

from pyxc import NotMapped
from pyxc.debug import DomainMemory
from pyxc.debug.live import LiveVirtual

TABLE, DIRECT_MAP = 0x240D, 0xFFFF_8880_0000_0000


def test_page_tables_are_looked_at_again(host: Host) -> None:
    db1, now = host.xen.domains["db1"], [0.0]

    def map_second_gigabyte(present: bool) -> None:
        db1.memory.write(TABLE, (0x83 if present else 0).to_bytes(8, "little"), offset=8)

    with DomainMemory(db1) as memory:
        live = LiveVirtual(memory, 0, lambda: now[0])
        address = DIRECT_MAP + (1 << 30) + 0x10_0000
        with pytest.raises(NotMapped):
            live.read(address, 3)
        map_second_gigabyte(True)
        now[0] = 0.1  # an address that is not mapped is looked at again soon, others later
        assert live.read(address, 3) == b"db1"
        map_second_gigabyte(False)
        now[0] = 0.9
        assert live.read(address, 3) == b"db1"
        now[0] = 1.2
        with pytest.raises(NotMapped):
            live.read(address, 3)
