# SPDX-License-Identifier: MIT
"""Every byte of a structure as it leaves the process, beside the layout that Xen published for 64 bits.

What is expected is written out here, offset by offset; nothing of it comes from the library's tables.
`make foreign` runs this in Pythons of 32 bits and of either byte order.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Literal, NamedTuple

import pytest
from wire import Sent, WireLink

import pyxc
from pyxc import sim

HANDLE = b"a handle"
"""Stands where the structure has the address of a buffer."""
ORDERS: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}


class Case(NamedTuple):
    """A call, its hypercall with the arguments around the address, and the structure as struct.pack has it.

    Padding is spelled out (x), so offsets can be read off; everything up to `size` that is not named is 0.
    """

    call: Callable[[pyxc.Xen], object]
    target: str
    order: str
    hypercall: int
    before: tuple[int, ...]
    size: int
    fields: str
    values: tuple[int | bytes, ...]


def context(xen: pyxc.Xen) -> object:
    return xen.domains[1].vcpu(1).context()


def getmemlist(xen: pyxc.Xen) -> object:
    return xen.dom0_op("getmemlist", 1, max_pfns=5, buffer=40, num_pfns=9)


def getmemlist2(xen: pyxc.Xen) -> object:
    return xen.dom0_op("getmemlist2", 1, max_pfns=5, start_pfn=0x0102030405, buffer=40)


def getdomaininfolist(xen: pyxc.Xen) -> object:
    return xen.sysctl("getdomaininfolist", first_domain=1, max_domains=2, buffer=2 * 144)


def increase(xen: pyxc.Xen) -> object:
    return xen.domains[1].memory.increase(3)


def limit(xen: pyxc.Xen) -> object:
    return xen.domains[1].set_max_memory(0x0102030405)


# dom0_op (hypercall 7): cmd at 0, interface_version at 4, the command's structure at 8, 136 bytes in all.
# domctl (36): cmd, interface_version, domid at 8, the structure at 16. sysctl (35): the structure at 8.
# memory_op (12): increase_reservation (0) of extent_start, nr_extents, extent_order, mem_flags, domid.
OLD, NEW = 0x03000000, 0x15
CASES = [
    Case(context, "sim:ppc64", ">", 7, (), 136, "IIHxxI8s", (37, OLD, 1, 1, HANDLE)),
    Case(getmemlist, "sim:ppc64", ">", 7, (), 136, "IIHxxxxxxQ8sQ", (2, OLD, 1, 5, HANDLE, 9)),
    Case(getmemlist2, "sim:ppc64", ">", 7, (), 136, "IIHxxxxxxQQ8s", (42, OLD, 1, 5, 0x0102030405, HANDLE)),
    Case(limit, "sim:ppc64", ">", 7, (), 136, "IIHxxxxxxQ", (28, OLD, 1, 0x0102030405)),
    Case(increase, "sim:ppc64", ">", 12, (0,), 32, "8sQIIH", (HANDLE, 3, 0, 0, 1)),
    Case(context, "sim:xen-3.0", "<", 7, (), 136, "IIHxxI8s", (37, OLD, 1, 1, HANDLE)),
    Case(getmemlist2, "sim:xen-3.0", "<", 7, (), 136, "IIHxxxxxxQQ8s", (42, OLD, 1, 5, 0x0102030405, HANDLE)),
    Case(context, "sim:xen-4.17", "<", 36, (), 144, "IIHxxxxxxIxxxx8s", (13, NEW, 1, 1, HANDLE)),
    Case(limit, "sim:xen-4.17", "<", 36, (), 144, "IIHxxxxxxQ", (11, NEW, 1, 0x0102030405)),
    Case(getdomaininfolist, "sim:xen-4.17", "<", 35, (), 136, "IIHxxI8sI", (6, NEW, 1, 2, HANDLE, 0)),
    Case(increase, "sim:xen-4.17", "<", 12, (0,), 32, "8sQIIH", (HANDLE, 3, 0, 0, 1)),
]


def names(case: Case) -> str:
    return f"{case.target}-{case.call.__name__}"


def last_call(target: str, call: Callable[[pyxc.Xen], object]) -> Sent:
    """What left for the last hypercall of a call."""
    link = WireLink(sim.connect(target))
    with pyxc.connect(link, names=False) as xen:
        call(xen)
    return link.sent[-1]


def check_handle(handle: bytes, order: str, sent: Sent, beyond: int) -> None:
    """A handle is the address of a buffer in the same arena, in 64 bits of the hypervisor's byte order."""
    arena = sent.buffers[0]
    assert beyond <= int.from_bytes(handle, ORDERS[order]) - arena.address < arena.size
    if sys.maxsize < 2**32:
        assert (handle[:4] if order == ">" else handle[4:]) == bytes(4)


@pytest.mark.parametrize("case", CASES, ids=names)
def test_a_structure_leaves_in_the_layout_of_a_64_bit_hypervisor(case: Case) -> None:
    sent = last_call(case.target, case.call)
    address = sent.buffers[0].address
    assert (sent.number, sent.arguments) == (case.hypercall, (*case.before, address, 0, 0, 0, 0)[:5])
    expected = struct.pack(case.order + case.fields, *case.values).ljust(case.size, b"\0")
    left = sent.buffers[0].content.ljust(case.size, b"\0")[: case.size]
    at = expected.find(HANDLE)
    if at >= 0:
        handle, left = left[at : at + 8], left[:at] + HANDLE + left[at + 8 :]
        check_handle(handle, case.order, sent, case.size)
    assert left == expected


@pytest.mark.parametrize(
    ("target", "order", "number", "size", "fourth"),
    [
        ("sim:ppc64", ">", 7, 136, struct.pack(">IIHxxI", 43, OLD, 1, 1)),
        ("sim:xen-4.17", "<", 36, 144, struct.pack("<IIHxxxxxxI", 14, NEW, 1, 1)),
    ],
    ids=["sim:ppc64", "sim:xen-4.17"],
)
def test_a_batch_leaves_as_entries_of_64_bytes_that_point_to_structures(
    target: str, order: str, number: int, size: int, fourth: bytes
) -> None:
    """op, result and six arguments of 64 bits each; the first argument is the structure's address."""
    sent = last_call(target, lambda xen: xen.vcpus())
    arena = sent.buffers[0]
    assert (sent.number, sent.arguments[:2]) == (13, (arena.address, 6))
    structures = []
    for index in range(6):
        entry = arena.content[64 * index : 64 * (index + 1)]
        check_handle(entry[16:24], order, sent, 64 * 6)
        assert entry[:16] + entry[24:] == struct.pack(f"{order}7Q", number, *[0] * 6)
        structures.append(int.from_bytes(entry[16:24], ORDERS[order]) - arena.address)
    left = arena.content[structures[3] : structures[3] + size]
    assert left.ljust(size, b"\0") == fourth.ljust(size, b"\0")
