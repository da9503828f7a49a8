# SPDX-License-Identifier: MIT
"""The physical memory of a PV guest, in which tools that know nothing of Xen walk its page tables."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from hosts import Host

from pyxc.debug import DomainMemory, MemorySession, RemoteMemory
from pyxc.debug.guest_memory import PHYSICAL, WITHOUT_XEN, GuestMemory

FRAME = 0x000F_FFFF_FFFF_F000
XENS_SLOTS = range(256, 272)


@pytest.fixture(params=["here", "served"])
def memory(request: pytest.FixtureRequest, host: Host) -> Iterator[GuestMemory]:
    """A PV guest's memory on this host, or that of a memory server."""
    local = DomainMemory(host.xen.domains["web1"])
    if request.param == "here":
        with local:
            yield local
        return
    near, far = socket.socketpair()

    def serve() -> None:
        with far, closing(MemorySession(local)) as session:
            session.serve(far)

    server = threading.Thread(target=serve)
    server.start()
    with RemoteMemory(near) as remote:
        yield remote
    server.join(60)


def entries(memory: GuestMemory, gfn: int) -> list[int]:
    page = memory.read(WITHOUT_XEN, gfn * 4096, 4096)
    return [int.from_bytes(page[at : at + 8], "little") for at in range(0, 4096, 8)]


def mapped(memory: GuestMemory, gfn: int, level: int, base: int = 0) -> Iterator[tuple[int, int]]:
    """The virtual and physical addresses of pages, as a processor finds them without Xen."""
    for index, entry in enumerate(entries(memory, gfn)):
        if entry & 1:
            address = base | index << 3 + 9 * level
            if level == 1:
                yield address | (2**16 - 1) * (address >> 47) << 48, entry & FRAME
            else:
                yield from mapped(memory, (entry & FRAME) // 4096, level - 1, address)


def top_of(host: Host) -> int:
    """The guest's frame with its top page table."""
    domain = host.xen.domains["web1"]
    return int(domain.memory.p2m().entries.index(domain.vcpu(0).context()["cr3"] // 4096))


def test_page_tables_lead_to_what_the_vcpu_sees(host: Host, memory: GuestMemory) -> None:
    top = top_of(host)
    found = dict(mapped(memory, top, 4))
    assert len(found) > 30
    for virtual, physical in found.items():
        seen = memory.read(0, virtual, 64)
        assert seen == memory.read(PHYSICAL, physical, 64) == memory.read(WITHOUT_XEN, physical, 64)
    assert not any(entries(memory, top)[index] for index in XENS_SLOTS)


def test_a_part_of_a_table_is_the_same_as_the_whole(host: Host, memory: GuestMemory) -> None:
    start = top_of(host) * 4096
    around = memory.read(WITHOUT_XEN, start - 100, 4096 + 200)
    assert around[100:-100] == memory.read(WITHOUT_XEN, start, 4096)
    assert around[:100] == memory.read(PHYSICAL, start - 100, 100)
    assert memory.read(WITHOUT_XEN, start + 4091, 3) == around[4191:4194]
    assert around[100:-100] != memory.read(PHYSICAL, start, 4096)


def test_it_cannot_be_written(host: Host) -> None:
    with (
        DomainMemory(host.xen.domains["web1"], writable=True) as memory,
        pytest.raises(ValueError, match="can only be read"),
    ):
        memory.write(WITHOUT_XEN, 0x1000, b"x")


def test_page_tables_of_a_pvh_guest_are_as_they_are(host: Host) -> None:
    with DomainMemory(host.xen.domains["db1"]) as memory:
        assert memory.read(WITHOUT_XEN, 0x100000, 25) == b"db1: simulated PVH kernel"


def test_tables_that_came_later_are_found_after_refresh(host: Host) -> None:
    """A program's page tables, once a vcpu runs it."""
    web1 = host.xen.domains["web1"]
    frames = web1.memory.p2m().entries
    with DomainMemory(web1, writable=True) as memory:
        memory.write(PHYSICAL, 100 * 4096, (frames[50] << 12 | 1).to_bytes(8, "little"))
        before = memory.read(WITHOUT_XEN, 100 * 4096, 8)
        context = web1.vcpu(0).context().replace(cr1=frames[100] << 12)
        host.truth.domains[1].vcpus[0].context = context.encode()
        assert memory.read(WITHOUT_XEN, 100 * 4096, 8) == before == memory.read(PHYSICAL, 100 * 4096, 8)
        memory.refresh()
        assert memory.read(WITHOUT_XEN, 100 * 4096, 8) == (50 << 12 | 1).to_bytes(8, "little")
