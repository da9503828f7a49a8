# SPDX-License-Identifier: MIT
"""The physical memory of a running PV guest as if it ran without Xen, for tools that walk its page tables."""

from __future__ import annotations

from pyxc._core import PAGE_SIZE
from pyxc.domain.address_space import Physical
from pyxc.domain.domain import Domain
from pyxc.domain.p2m import read_pages
from pyxc.guest import vmcoreinfo
from pyxc.guest.live_pages import LivePages
from pyxc.guest.physical_tables import PhysicalTables


class MemoryWithoutXen:
    """Physical memory of a 64-bit PV guest in which page tables name guest frames, not machine frames.

    These are the tables that its vcpus and its kernel used when this was made: later ones are as Xen sees
    them. Unsupported for a 32-bit guest. Threads: one at a time.
    """

    def __init__(self, domain: Domain, physical: Physical) -> None:
        contexts = [vcpu.context() for vcpu in domain.vcpus if vcpu.online()]
        pages = LivePages(domain, False, read_pages(domain.memory, domain.info()), contexts)
        try:
            text = vmcoreinfo.find(physical)
        except LookupError:
            text = None
        self._physical = physical
        self._tables = PhysicalTables(pages, text)
        self._places = {pages.gfns[place]: place for place in self._tables.tables}

    def read(self, address: int, size: int) -> bytes:
        """NotMapped."""
        found = bytearray(self._physical.read(address, size))
        for gfn in range(address // PAGE_SIZE, -(-(address + size) // PAGE_SIZE)):
            place = self._places.get(gfn)
            if place is not None:
                start = gfn * PAGE_SIZE
                table = self._tables.table(place, self._physical.read(start, PAGE_SIZE))
                here = range(max(start, address), min(start + PAGE_SIZE, address + size))
                found[here.start - address : here.stop - address] = table[
                    here.start - start : here.stop - start
                ]
        return bytes(found)
