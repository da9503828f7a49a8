# SPDX-License-Identifier: MIT
"""Which page tables the simulated hypervisor lets a processor use; what real ones say is in recordings."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

import pyxc
from pyxc import PageType, sim
from pyxc.abi import mmuext
from pyxc.abi.domctl import PAGE_PINNED

TABLE, WRITABLE, READ_ONLY, LARGE = 0x67, 0x23, 0x21, 0xE7


@pytest.fixture(params=[64, 32])
def tables(request: pytest.FixtureRequest) -> Iterator[Tables]:
    xen = pyxc.connect(sim.connect("sim:xen-4.10"))
    yield Tables(xen, request.param)
    assert xen.link.maps == []
    xen.close()


class Tables:
    """A domain with one table of each level, top first, and a page, none of which maps anything."""

    def __init__(self, xen: pyxc.Xen, bits: int) -> None:
        self.domain = xen.domains.create()
        if bits == 32:
            self.domain.set_guest_bits(32)
        self.domain.set_max_memory(64)
        self.top = 3 if bits == 32 else 4
        *self.frames, self.page = self.domain.memory.populate(range(self.top + 1))
        self.types = xen.link.hypervisor.machine.types
        for table, below in zip(self.frames, self.frames[1:]):
            self.write(table, below << 12 | (1 if bits == 32 and table == self.frames[0] else TABLE))

    def write(self, table: int, entry: int, index: int | None = None) -> None:
        """An entry of a table: the one that all of them use, or another one."""
        at = (3 if self.top == 3 and table == self.frames[0] else 0) if index is None else index
        self.domain.memory.write(table, entry.to_bytes(8, "little"), 8 * at)

    def pin(self, table: int | None = None, level: int | None = None) -> None:
        operation = mmuext.PIN_L3_TABLE if (level or self.top) == 3 else mmuext.PIN_L4_TABLE
        mfn = self.frames[0] if table is None else table
        entry = mmuext.MMUEXT_STRUCT.at(self.domain.xen.interface).pack(
            {"cmd": operation.command, "arg1": mfn}
        )
        self.domain.change(operation, ops=entry, count=1)

    def refuses(self, number: int = errno.EINVAL) -> None:
        with pytest.raises(pyxc.HypercallError) as caught:
            self.pin()
        assert caught.value.errno == number
        assert not self.types.keys() & set(self.frames)


def test_each_table_gets_its_type(tables: Tables) -> None:
    tables.write(tables.frames[-1], tables.page << 12 | WRITABLE)
    tables.pin()
    kinds = [PageType.L4TAB, PageType.L3TAB, PageType.L2TAB, PageType.L1TAB][4 - tables.top :]
    expected = {mfn: int(kind) for mfn, kind in zip(tables.frames, kinds)}
    expected[tables.frames[0]] |= PAGE_PINNED
    assert {mfn: tables.types.get(mfn) for mfn in tables.frames} == expected
    assert tables.page not in tables.types
    with pytest.raises(OSError, match="EBUSY"):
        tables.domain.memory.write(tables.frames[0], b"\0")


def test_a_table_may_be_mapped_read_only(tables: Tables) -> None:
    tables.write(tables.frames[-1], tables.frames[0] << 12 | READ_ONLY)
    tables.pin()


@pytest.mark.parametrize("which", [0, 1, -1])
def test_but_not_writable(tables: Tables, which: int) -> None:
    tables.write(tables.frames[-1], tables.frames[which] << 12 | WRITABLE)
    tables.refuses(errno.EBUSY)


def test_a_table_that_is_mapped_writable_from_outside(tables: Tables) -> None:
    with tables.domain.memory.map(tables.frames[-1], writable=True):
        tables.refuses()
    tables.pin()


def test_a_frame_of_another_domain(tables: Tables) -> None:
    tables.write(tables.frames[-1], 0x100 << 12 | READ_ONLY)
    tables.refuses(errno.EPERM)


def test_a_large_page(tables: Tables) -> None:
    tables.write(tables.frames[-2], tables.page << 12 | LARGE)
    tables.refuses()


def test_a_table_of_two_levels(tables: Tables) -> None:
    tables.write(tables.frames[-2], tables.frames[-2] << 12 | TABLE, 5)
    tables.refuses()


def test_a_table_that_is_pinned_already(tables: Tables) -> None:
    tables.pin()
    with pytest.raises(pyxc.HypercallError):
        tables.pin()


def test_three_levels_need_the_entry_below_which_xen_lives() -> None:
    with pyxc.connect(sim.connect("sim:xen-4.10")) as xen:
        tables = Tables(xen, 32)
        tables.write(tables.frames[0], 0)
        tables.refuses()
