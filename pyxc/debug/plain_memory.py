# SPDX-License-Identifier: MIT
"""The physical memory of a running PV guest as if it ran without Xen, for tools that walk its page tables."""

from __future__ import annotations

import errno
from array import array

from pyxc import errors
from pyxc._core import PAGE_SIZE
from pyxc.domain.address_space import Physical
from pyxc.domain.domain import Domain
from pyxc.domain.p2m import ABSENT
from pyxc.guest import vmcoreinfo
from pyxc.guest.physical_tables import PhysicalTables


class PlainMemory:
    """Physical memory of a 64-bit PV guest in which page tables name guest frames, not machine frames.

    These are the tables that its vcpus and its kernel used when this was made: later ones are as Xen sees
    them. Unsupported for a 32-bit guest. Threads: one at a time.
    """

    def __init__(self, domain: Domain, physical: Physical) -> None:
        if domain.guest_bits() != 64:
            hint = "the page tables of 32-bit PV guests cannot be made physical"
            raise errors.Unsupported(errno.EOPNOTSUPP, "reading memory", domain.domid, hint=hint)
        self._physical = physical
        try:
            swapper = vmcoreinfo.symbol(vmcoreinfo.find(physical), "swapper_pg_dir")
        except LookupError:
            swapper = None
        source = _Running(domain, physical)
        self._tables = PhysicalTables(source, swapper)
        self._places = {source.gfns[place]: place for place in self._tables.tables}

    def read(self, address: int, size: int) -> bytes:
        """NotMapped."""
        found = self._physical.read(address, size)
        pages = range(address // PAGE_SIZE, -(-(address + size) // PAGE_SIZE))
        tables = [gfn for gfn in pages if gfn in self._places]
        if not tables:
            return found
        changed = bytearray(found)
        for gfn in tables:
            start = gfn * PAGE_SIZE
            page = self._tables.table(self._places[gfn], self._physical.read(start, PAGE_SIZE))
            here = range(max(start, address), min(start + PAGE_SIZE, address + size))
            changed[here.start - address : here.stop - address] = page[here.start - start : here.stop - start]
        return bytes(changed)


class _Running:
    """The pages of a guest that runs, see PagesSource."""

    is_hvm, bits = False, 64

    def __init__(self, domain: Domain, physical: Physical) -> None:
        self._physical = physical
        self.gfns, self.frames = array("Q"), array("Q")
        for gfn, frame in enumerate(domain.memory.p2m().entries):
            if frame != ABSENT:
                self.gfns.append(gfn)
                self.frames.append(frame)
        self.contexts = [vcpu.context() for vcpu in domain.vcpus if vcpu.online()]

    def pages(self, first: int, count: int) -> bytes:
        """Pages that the guest has given up meanwhile are zeros."""
        return b"".join(map(self._page, self.gfns[first : first + count]))

    def _page(self, gfn: int) -> bytes:
        try:
            return self._physical.read(gfn * PAGE_SIZE, PAGE_SIZE)
        except errors.NotMapped:
            return bytes(PAGE_SIZE)
