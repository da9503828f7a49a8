# SPDX-License-Identifier: MIT
"""Guest memory at virtual addresses, through page tables that a guest may have written."""

from __future__ import annotations

import pytest

import pyxc
from pyxc import sim

P2M = 0xFFFFC90000000000
PRESENT, LARGE = 0x1, 0x80
ROOT = 0x240A
ADDRESS = 0xFFFFC90000013EE0


@pytest.fixture
def hypervisor():
    return sim.Hypervisor(sim.named("sim:xen-4.17"))


@pytest.fixture
def xen(hypervisor):
    with pyxc.connect(hypervisor.connect()) as xen:
        yield xen


def write(domain, frame, index, entry):
    domain.memory.write(frame, entry.to_bytes(8, "little"), index * 8)


@pytest.fixture
def db1(xen):
    """An HVM guest whose page tables map the page of ADDRESS at frame 0x300, and a large page after it."""
    domain = xen.domains["db1"]
    write(domain, ROOT, ADDRESS >> 39 & 511, 0x310 << 12 | PRESENT)
    write(domain, 0x310, ADDRESS >> 30 & 511, 0x311 << 12 | PRESENT)
    write(domain, 0x311, ADDRESS >> 21 & 511, 0x312 << 12 | PRESENT)
    write(domain, 0x312, ADDRESS >> 12 & 511, 0x300 << 12 | PRESENT)
    write(domain, 0x311, (ADDRESS >> 21 & 511) + 1, 0x400 << 12 | PRESENT | LARGE)
    return domain


def test_a_pv_guest(xen):
    """Its list of frames is mapped at the address that it reports."""
    web = xen.domains["web1"]
    first = web.vcpu(0).read(_p2m_address(xen, web), 16)
    assert first == bytes(web.memory.p2m().entries[:2])


def _p2m_address(xen, web):
    from pyxc.sim.guests.pv import P2M_VADDR

    return P2M_VADDR


def test_an_hvm_guest(db1):
    db1.memory.write(0x300, b"on the stack", 0xEE0)
    assert db1.vcpu(0).read(ADDRESS, 12) == b"on the stack"
    assert db1.vcpu(0).read(ADDRESS, 12, db1.vcpu(0).context()) == b"on the stack"


def test_a_large_page(db1):
    db1.memory.write(0x400 + 5, b"large", 7)
    start = (ADDRESS >> 21) + 1 << 21
    assert db1.vcpu(0).read(start + 5 * 4096 + 7, 5) == b"large"


def test_it_ends_where_nothing_is_mapped(db1):
    assert len(db1.vcpu(0).read(ADDRESS, 4096)) == 4096 - 0xEE0
    assert db1.vcpu(0).read(0, 8) == b""
    assert db1.vcpu(0).read(2**64 - 8, 16) == b""


@pytest.mark.parametrize("entry", [2**64 - 1, 0xFFFFFFFFFF << 12 | 1, 0x9999999 << 12 | 1, ROOT << 12 | 1])
def test_hostile_tables(db1, entry):
    write(db1, 0x312, ADDRESS >> 12 & 511, entry)
    assert len(db1.vcpu(0).read(ADDRESS, 8)) in (0, 8)
    write(db1, ROOT, ADDRESS >> 39 & 511, entry)
    assert len(db1.vcpu(0).read(ADDRESS, 8)) in (0, 8)


def test_without_paging(db1):
    context = db1.vcpu(0).context()
    db1.memory.write(0x123, b"physical")
    assert db1.vcpu(0).read(0x123000, 8, context.replace(cr0=0x11)) == b"physical"


def test_what_cannot_be_read(db1):
    for address, size in ((-1, 8), (2**64, 8), (0, -1), (0, 1 << 21)):
        with pytest.raises(ValueError, match="must be"):
            db1.vcpu(0).read(address, size)
    with pyxc.open("sim:ppc64") as xen, pytest.raises(pyxc.Unsupported, match="64-bit guests on x86"):
        xen.domains["web1"].vcpu(0).read(0, 8)
