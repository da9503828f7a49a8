# SPDX-License-Identifier: MIT
"""Whose memory is mapped: never that of a domain that merely has the id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hosts import Boot, Host, Swap

import pyxc
from pyxc import errors
from pyxc.abi.grant_table import Reserved
from pyxc.abi.operation import Operation
from pyxc.debug import DomainMemory
from pyxc.debug.guest_memory import PHYSICAL
from pyxc.domain.console import Console, Place

FRAME = 0x80
"""One that both domains have."""
ADDRESS = FRAME << 12
PV, PVH = 1, 2

Access = Callable[[pyxc.Domain], Any]
ACCESSES: dict[str, Access] = {
    "map": lambda domain: domain.memory.map(FRAME),
    "map a frame that is absent": lambda domain: domain.memory.map(2**30),
    "map writable": lambda domain: domain.memory.map(FRAME, writable=True),
    "read": lambda domain: domain.memory.read(FRAME),
    "write": lambda domain: domain.memory.write(FRAME, b"x"),
    "read by address": lambda domain: domain.memory.physical.read(ADDRESS, 16),
    "search": lambda domain: list(domain.memory.physical.search(b"tenant", limit=1 << 24)),
    "write by address": lambda domain: domain.memory.physical(writable=True).write(ADDRESS, b"x"),
    "read by virtual address": lambda domain: domain.memory.virtual().read(ADDRESS, 16),
    "list frames": lambda domain: domain.memory.frames(source="map"),
    "debug": lambda domain: DomainMemory(domain).read(PHYSICAL, ADDRESS, 16),
    "console": lambda domain: Console(domain, Place(FRAME, 1)).last(),
}
PV_ACCESSES: dict[str, Access] = {
    "p2m": lambda domain: domain.memory.p2m(),
    "list frames": lambda domain: domain.memory.frames(),
    "read by pfn": lambda domain: domain.memory.physical.read(0, 16),
    "map shared_info": lambda domain: domain.memory.map(domain.info().shared_info_frame),
}
each_access = pytest.mark.parametrize("access", ACCESSES.values(), ids=ACCESSES)


@each_access
def test_a_domain_that_got_the_id_is_not_accessed(host: Host, access: Access) -> None:
    domain, swap = host.xen.domains[PVH], Swap(host.truth, PVH)
    swap()
    with pytest.raises(errors.DomainGone):
        access(domain)
    assert swap.left_alone()


@each_access
def test_nor_one_that_gets_it_at_the_last_moment(host: Host, access: Access) -> None:
    domain = host.xen.domains[PVH]
    host.link.guest_acts = swap = Swap(host.truth, PVH)
    with pytest.raises(errors.DomainGone):
        access(domain)
    assert swap.left_alone()


@pytest.mark.parametrize("access", PV_ACCESSES.values(), ids=PV_ACCESSES)
def test_the_lists_of_a_pv_guest_are_its_own(host: Host, access: Access) -> None:
    domain = host.xen.domains[PV]
    host.link.guest_acts = swap = Swap(host.truth, PV)
    with pytest.raises(errors.DomainGone):
        access(domain)
    assert swap.left_alone()


def test_a_domain_that_was_restarted_is_another_one(boot: Boot) -> None:
    """With the same UUID: on Xen 4.22."""
    host = boot("4.22")
    old = host.xen.domains["build"]
    assert old.unique_id
    old.destroy()
    new = host.xen.domains.create(domid=old.domid, uuid=old.uuid)
    new.set_max_memory(64)
    (frame,) = new.memory.populate([0])
    with pytest.raises(errors.DomainGone):
        old.memory.read(frame)


def test_what_another_domain_grants_is_not_mapped(host: Host) -> None:
    domain, swap = host.xen.domains[PVH], Swap(host.truth, PVH)
    swap()
    host.xen.domains[PVH].grants.seed(console=FRAME)
    with pytest.raises(errors.DomainGone):
        domain.grants.map(Reserved.CONSOLE)


@pytest.mark.parametrize("frames", [[FRAME], range(FRAME, FRAME + 64)])
def test_a_mapping_costs_one_question(host: Host, frames: list[int] | range) -> None:
    domain = host.xen.domains[PVH]
    asked: list[Operation] = []
    host.xen.caller.trace = lambda operation, *_: asked.append(operation)
    domain.memory.map(frames).close()
    domain.memory.map(frames, writable=True).close()
    assert [operation.name for operation in asked] == ["getdomaininfo"] * 2
