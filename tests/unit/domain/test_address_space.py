# SPDX-License-Identifier: MIT
"""A guest's memory by address, through page tables that guests have and such as no guest should have."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from hosts import Boot, Host

import pyxc
from pyxc import DecodeError, NotMapped, ReadOnlyError, errors, sim
from pyxc.abi import hvm_save
from pyxc.abi.hvm_save import HvmRecordType
from pyxc.domain.address_space import Virtual
from pyxc.domain.paging import Hole, Paging, levels_of, walk

TEXT = 0xFFFF_FFFF_8010_0000
"""Where db1 has its kernel."""
P2M = 0xFFFF_C900_0000_1000
"""Where web1 has its p2m."""
PRESENT, RW, US, PSE, NX = 1, 2, 4, 0x80, 1 << 63


def test_physical_memory_is_read_by_address(any_host: Host) -> None:
    db1 = any_host.xen.domains["db1"]
    db1.memory.write(0x1FF, b"end")
    db1.memory.write(0x1FF, b"over", offset=4092)
    db1.memory.write(0x200, b" the edge\0")
    with db1.memory.physical as space:
        assert space.read(0x100000, 3) == space[0x100000:0x100003] == b"db1"
        assert space[0x100000] == space.u8(0x100000) == ord("d")
        assert space.u16(0x100000) == 0x6264
        assert space.u32(0x100000) == 0x3A316264
        assert space.u64(0x100000) == int.from_bytes(b"db1: sim", "little")
        assert space.read(0x1FFFFC, 13) == b"over the edge"
        assert space.c_string(0x1FFFFC) == b"over the edge"
        assert list(space.search(b"over the edge")) == [0x1FFFFC]
        assert space[5:5] == b""
    assert any_host.link.maps == []


def give_the_id_away(host: Host, domid: int) -> None:
    """The domain ends, and another tenant's gets its id."""
    host.truth.kill(host.truth.domains[domid])
    admin = pyxc.connect(host.truth.connect())
    other = admin.domains.create(hvm=True, hap=True, domid=domid)
    other.set_max_memory(64 << 10)
    other.memory.set_paging_pool(4 << 10)
    other.memory.populate(range(0x2000))
    other.memory.write(0x1000, b"of another tenant")


READS: list[Callable[[pyxc.AddressSpace, Callable[[], None]], object]] = [
    lambda space, act: (act(), space.read(0x1000 << 12, 17)),
    lambda space, act: (act(), list(space.search(b"of another tenant"))),
    lambda space, act: (space.read(0x100 << 12, 3), space.refresh(), act(), space.read(0x100 << 12, 3)),
]


@pytest.mark.parametrize("read", READS)
def test_an_id_that_another_domain_has_by_now(
    host: Host, read: Callable[[pyxc.AddressSpace, Callable[[], None]], object]
) -> None:
    with host.xen.domains["db1"].memory.physical as space, pytest.raises(errors.DomainGone):
        read(space, lambda: give_the_id_away(host, 2))
    assert host.link.maps == []


def test_a_search_passes_small_and_large_holes(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    db1.memory.decrease([0x300])
    db1.memory.write(0x301, b"behind a page")
    db1.memory.write(0xFEFFA, b"behind gigabytes")
    with db1.memory.physical as space:
        assert list(space.search(b"behind a page")) == [0x301000]
        assert list(space.search(b"behind gigabytes")) == [0xFEFFA000]
        assert list(space.search(b"behind gigabytes", 0x12345678, limit=0xF0000000)) == [0xFEFFA000]
        assert list(space.search(b"behind gigabytes", limit=0xFEFFA000)) == []


def test_physical_memory_of_a_pv_guest_is_that_of_its_p2m(any_host: Host) -> None:
    for name in ("web1", "build"):
        domain = any_host.xen.domains[name]
        p2m = domain.memory.p2m()
        with domain.memory.physical as space:
            assert space.size == 4096 * len(p2m)
            for pfn in random.Random(3).sample(range(len(p2m)), 50):
                if p2m[pfn] < 2**63:
                    assert space.read(pfn << 12, 4096) == domain.memory.read(p2m[pfn])
                else:
                    with pytest.raises(NotMapped):
                        space.read(pfn << 12, 1)


def test_virtual_memory_of_a_pv_guest(boot: Boot) -> None:
    host = boot()
    web1 = host.xen.domains["web1"]
    p2m = web1.memory.p2m()
    with web1.memory.virtual(web1.vcpu(1)) as space:
        for pfn in (0, 511, 512, 8191, len(p2m.entries) - 1):
            entry = space.u64(P2M + 8 * pfn)
            assert p2m[pfn] in (entry, 2**64 - 1)
        assert space.translate(P2M + 16).frame == web1.vcpu(0).translate(P2M).frame
        for address in (0, 0xFFFF_8000_0000_0000, 0xFFFF_C900_0000_0000, 1 << 62):
            with pytest.raises(NotMapped) as refused:
                space.read(address, 1)
            assert refused.value.address == address


@pytest.mark.parametrize("kernel", ["pv", "pv32"])
def test_what_the_builder_maps_is_found(boot: Boot, kernel: str) -> None:
    """Each page of the initial mapping, through the tables that the builder made."""
    host = boot("4.10")
    web = host.xen.domains.build(sim.kernel(kernel), memory_kb=40 << 10)
    context = web.vcpu(0).context()
    base = (context["rip"] if kernel == "pv" else context["eip"]) & ~0x3FFFFF
    with web.memory.virtual(0) as space:
        assert space.paging.levels == (4 if kernel == "pv" else 3)
        for pfn in range(0x400):
            frame = space.translate(base + (pfn << 12) | 0x123).frame
            assert host.m2p(frame) == pfn
        code = context["rip"] if kernel == "pv" else context["eip"]
        assert space.read(code, 16) == web.memory.read(space.translate(code).frame, code & 0xFFF, 16)
    web.destroy()


def test_a_new_pvh_guest_has_no_paging(host: Host) -> None:
    web = host.xen.domains.build(sim.kernel("pvh"), memory_kb=16 << 10)
    web.unpause()
    with web.memory.virtual(0) as space:
        assert space.paging.levels == 0
        assert space.read(0x100000, 3) == b"\xf4\xeb\xfd"
    web.destroy()


def test_virtual_memory_of_a_pvh_guest(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    with db1.memory.virtual() as space:
        assert space.c_string(TEXT) == space.c_string(0xFFFF_8880_0010_0000) == b"db1: simulated PVH kernel"
        assert list(space.search(b"simulated PVH", TEXT - 4096, TEXT + 8192)) == [TEXT + 5]
        translation = db1.vcpu(0).translate(TEXT + 5)
        assert (translation.frame, translation.page_bits) == (0x100, 21)
        with pytest.raises(NotMapped, match="not memory of the guest"):
            space.u8(0xFFFF_8880_2000_0000)
    with db1.memory.virtual(0x240A000 | 0x5) as same:
        assert same.read(TEXT, 3) == b"db1"


def test_writing_must_be_asked_for(boot: Boot) -> None:
    host = boot()
    db1 = host.xen.domains["db1"]
    with pytest.raises(ReadOnlyError, match="writable=True"):
        db1.memory.physical.write(0x1000, b"x")
    with db1.memory.virtual(writable=True) as space:
        space.write(0xFFFF_8880_0000_1FFE, b"abcd")
        assert space.read(0xFFFF_8880_0000_1FFE, 4) == b"abcd"
    with db1.memory.physical(writable=True) as physical:
        assert physical.read(0x1FFE, 4) == b"abcd"
    with pytest.raises(errors.HypercallError, match="0x8000 cannot be mapped"):
        db1.memory.physical(writable=True).write(0x1000, bytes(130 << 20))
    with db1.memory.virtual(writable=True) as space, pytest.raises(NotMapped):
        space.write(0x1000, b"x")
    assert db1.memory.physical.read(0x1FFE, 4) == b"abcd"
    with pytest.raises(ReadOnlyError):
        boot(readonly=True).xen.domains["db1"].memory.physical(writable=True)


def test_a_table_of_a_pv_guest_is_not_written(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    root = web1.vcpu(0).context()["cr3"] >> 12
    pfn = web1.memory.p2m().entries.index(root)
    with web1.memory.physical(writable=True) as space, pytest.raises(errors.HypercallError, match="EBUSY"):
        space.write(pfn << 12, b"x")


def test_what_is_fresh(host: Host) -> None:
    """Bytes at once; which frames there are after refresh()."""
    db1 = host.xen.domains["db1"]
    space = db1.memory.physical
    assert space.read(0x5000, 2) == b"\0\0"
    host.truth.write_as_guest(2, 5, 0, b"hi")
    assert space.read(0x5000, 2) == b"hi"
    db1.memory.write(0x240D, (0x83).to_bytes(8, "little"), offset=8)
    with db1.memory.virtual() as virtual:
        assert virtual.read(0xFFFF_8880_4000_5000, 2) == b"hi"
        db1.memory.write(0x240D, bytes(8), offset=8)
        assert virtual.read(0xFFFF_8880_4000_5000, 2) == b"hi"
        virtual.refresh()
        with pytest.raises(NotMapped):
            virtual.read(0xFFFF_8880_4000_5000, 2)
    space.close()


def test_few_windows_are_open_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyxc.domain.windows._MOST_OPEN", 3)
    with host.xen.domains["db1"].memory.physical as space:
        for address in range(0, 64 << 20, 1 << 20):
            space.u64(address)
            assert len(host.link.maps) <= 3
        assert len(space.read(0, 32 << 20)) == 32 << 20


def test_bad_arguments(host: Host) -> None:
    space = host.xen.domains["db1"].memory.physical
    for use in (
        lambda: space.read(-1, 1),
        lambda: space.read(space.size, 1),
        lambda: space.read(space.size - 1, 2),
        lambda: space.read(0, (1 << 30) + 1),
        lambda: space[0:],
        lambda: space[0:8:2],
        lambda: space.search(b""),
        lambda: space.search(b"x", 0, space.size + 1),
        lambda: space.c_string(0, 0),
        lambda: host.xen.domains["db1"].memory.virtual(-1),
    ):
        with pytest.raises(ValueError):
            use()
    with pytest.raises(DecodeError, match="no NUL in 5 bytes"):
        space.c_string(0x100000, 5)
    space.close()


def test_a_vcpu_without_registers(host: Host) -> None:
    made = host.xen.domains.create(hvm=True, hap=True)
    with pytest.raises(errors.HypercallError, match="ENODATA.*offline"):
        made.vcpu(0).translate(0)
    with pytest.raises(errors.Unsupported):
        pyxc.open("sim:ppc64").domains["web1"].vcpu(0).translate(0)


# Tables by hand.


class Tables:
    """Tables in a dictionary: their words of 4 or 8 bytes by frame and offset; all others are 0."""

    def __init__(self, **entries: int) -> None:
        self.words: dict[tuple[int, int], int] = {}

    def put(self, frame: int, index: int, entry: int, size: int = 8) -> None:
        self.words[frame, index * size] = entry

    def __call__(self, frame: int, offset: int, size: int) -> int:
        return self.words.get((frame, offset), 0)


def test_modes_of_a_processor() -> None:
    pg, pae, la57, lma = 1 << 31, 1 << 5, 1 << 12, 1 << 10
    assert levels_of(0, pae, lma) == 0
    assert levels_of(pg, 0, 0) == 2
    assert levels_of(pg, pae, 0) == 3
    assert levels_of(pg, pae, lma) == 4
    assert levels_of(pg, pae | la57, lma) == 5


def test_five_levels() -> None:
    tables = Tables()
    address = 0xFF11_2233_4455_6677 | 0x1FF << 55
    for level, frame in zip(range(5, 0, -1), range(1, 6)):
        index = address >> 12 + 9 * (level - 1) & 511
        tables.put(frame, index, (frame + 1) << 12 | PRESENT | RW | US)
    found = walk(Paging(5, 1 << 12), address, tables)
    assert found == (address, 6, 12, True, True, True)
    assert walk(Paging(5, 1 << 12), address ^ 1 << 40, tables) == Hole(address ^ 1 << 40, 39)


def test_rights_are_those_of_all_levels() -> None:
    tables = Tables()
    tables.put(1, 0, 2 << 12 | PRESENT | RW | US)
    tables.put(2, 0, 3 << 12 | PRESENT | US)
    tables.put(3, 0, 4 << 12 | PRESENT | RW)
    tables.put(4, 0, 5 << 12 | PRESENT | RW | US | NX)
    assert walk(Paging(4, 1 << 12), 0, tables) == (0, 5, 12, False, False, False)


def test_large_pages() -> None:
    tables = Tables()
    tables.put(1, 0, 2 << 12 | PRESENT | RW | US)
    tables.put(2, 1, 5 << 30 | 1 << 12 | PRESENT | RW | US | PSE)
    found = walk(Paging(4, 1 << 12), (1 << 30) + 0x1234567, tables)
    assert found[1:3] == ((5 << 30) + 0x1234567 >> 12, 30)
    tables.put(2, 2, 5 << 30 | 1 << 21 | PRESENT | PSE)
    with pytest.raises(DecodeError, match="unaligned"):
        walk(Paging(4, 1 << 12), 2 << 30, tables)


def test_32_bits_without_pae() -> None:
    tables = Tables()
    tables.put(1, 0x300, 2 << 12 | PRESENT | RW | US, 4)
    tables.put(2, 5, 0xFFFFF << 12 | PRESENT | RW | US | PSE, 4)
    tables.put(1, 0x301, 0xC << 22 | 3 << 13 | PRESENT | RW | US | PSE, 4)
    small = Paging(2, 1 << 12)
    assert walk(small, 0xC0005ABC, tables)[1:3] == (0xFFFFF, 12)
    assert walk(small, 0xC0412345, tables)[1:3] == (3 << 20 | 0xC << 10 | 0x12, 22)
    tables.put(0x3006, 0x12, 7 << 12 | PRESENT, 4)
    assert walk(small._replace(large=False), 0xC0412345, tables)[1:3] == (7, 12)


def test_pae_of_a_processor() -> None:
    """The top table is anywhere, at 32 bytes; its entries have no rights."""
    tables = Tables()
    tables.words[1, 0x60 + 24] = 2 << 12 | PRESENT
    tables.put(2, 0, 3 << 12 | PRESENT | RW | US)
    tables.put(3, 1, 9 << 12 | PRESENT | RW | US)
    how = Paging(3, 0).with_root(1 << 12 | 0x60)
    assert walk(how, 0xC0001000, tables) == (0xC0001000, 9, 12, True, True, True)
    tables.words[1, 0x60 + 24] |= RW
    with pytest.raises(DecodeError, match="reserved bits"):
        walk(how, 0xC0001000, tables)


def test_a_table_of_a_32_bit_pv_guest_beyond_4_gib() -> None:
    assert Paging(3, 0, pv=True).with_root(0x1234_5002).root == 0x2_1234_5000


def _self(tables: Tables) -> None:
    for index in range(512):
        tables.put(1, index, 1 << 12 | PRESENT | RW | US)


def test_a_table_that_is_its_own_entry_ends() -> None:
    tables = Tables()
    _self(tables)
    for levels in (3, 4, 5):
        how = Paging(levels, 1 << 12, pv=True)
        assert walk(how, 0x1234567, tables)[1:3] == (1, 12)


@pytest.mark.parametrize(
    ("level", "bits"),
    [(4, PSE), (5, PSE), (1, NX), (4, NX)],
)
def test_reserved_bits(level: int, bits: int) -> None:
    tables = Tables()
    for number, frame in zip(range(5, 0, -1), range(1, 6)):
        entry = (frame + 1) << 12 | PRESENT | (bits if number == level else 0)
        tables.put(frame, 0, entry)
    with pytest.raises(DecodeError, match="reserved bits"):
        walk(Paging(5, 1 << 12, no_execute=False), 0, tables)


def test_tables_outside_of_the_guest(host: Host) -> None:
    db1 = host.xen.domains["db1"]
    db1.memory.write(0x300, (1 << 51 | PRESENT).to_bytes(8, "little"))
    how = Paging(4, 0x300 << 12)
    with Virtual(db1.memory, how) as space, pytest.raises(DecodeError, match="which it does not have"):
        space.read(0, 1)


def test_no_tables_do_harm(host: Host) -> None:
    """Memory full of entries of any kind: each answer is a translation, a hole, or an error."""
    db1 = host.xen.domains["db1"]
    chance = random.Random(13)
    frames = range(0x300, 0x310)
    kinds: tuple[Callable[[], int], ...] = (
        lambda: chance.choice(frames) << 12 | chance.getrandbits(12) | PRESENT,
        lambda: chance.choice(frames) << 12 | PRESENT,
        lambda: chance.getrandbits(64),
        lambda: 0,
    )
    for frame in frames:
        db1.memory.write(frame, struct.pack("<512Q", *(chance.choice(kinds)() for _ in range(512))))
    seen = set()
    for levels in (2, 3, 4, 5):
        how = Paging(levels, 0, no_execute=bool(levels % 2)).with_root(frames[0] << 12)
        with Virtual(db1.memory, how) as space:
            for _ in range(300):
                address = chance.getrandbits(32 if levels < 4 else 47)
                try:
                    seen.add(len(space.read(address, 1)))
                except (NotMapped, DecodeError) as error:
                    seen.add(type(error))
            list(space.search(b"no such bytes", limit=1 << 22))
    assert seen == {1, NotMapped, DecodeError}


def test_registers_that_are_too_short(host: Host) -> None:
    host.truth.domains[2].hvm_records[HvmRecordType.CPU, 0] = bytes(100)
    with pytest.raises(DecodeError, match="100 bytes"):
        host.xen.domains["db1"].vcpu(0).translate(0)
    size = hvm_save.CPU_STRUCT.at(host.xen.interface).size
    host.truth.domains[2].hvm_records[HvmRecordType.CPU, 0] = bytes(size)
    assert host.xen.domains["db1"].vcpu(0).translate(0x5000).frame == 5


def test_memory_on_demand_is_not_populated(host: Host) -> None:
    host.truth.domains[2].pod_gfns.add(range(0x9000, 0x9010))
    with pytest.raises(errors.Unsupported, match="on demand"):
        host.xen.domains["db1"].memory.physical.read(0, 1)
