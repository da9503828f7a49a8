# SPDX-License-Identifier: MIT
"""Shares and cpu pools as xl shows and sets them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ground_truth import Command, Guests, Peer

import pyxc
from pyxc import Scheduler


@pytest.fixture
def old_pool(xen: pyxc.Xen, free_cpu: int) -> Iterator[pyxc.Pool]:
    """A pool under credit with cpu 1, which xl knows by its name."""
    with pyxc.open() as named:
        pool = named.pools.create(Scheduler.CREDIT, name="old")
        named.pools[0].remove_cpu(free_cpu)
        pool.add_cpu(free_cpu)
        yield pool
        pool.remove_cpu(free_cpu)
        pool.destroy()
        named.pools[0].add_cpu(free_cpu)


@pytest.mark.parametrize(
    "words",
    [
        ("sched-credit2",),
        ("sched-credit2", "-d", "pv"),
        ("sched-credit2", "-s"),
        ("sched-credit",),
        ("cpupool-list",),
        ("cpupool-list", "-c"),
    ],
    ids=" ".join,
)
def test_what_is_printed(peer: Peer, guests: Guests, pyxc_command: Command, words: tuple[str, ...]) -> None:
    assert pyxc_command(*words).stdout == peer.xl(*words)


def test_a_pool_of_pyxcs(
    peer: Peer, guests: Guests, old_pool: pyxc.Pool, xen: pyxc.Xen, pyxc_command: Command
) -> None:
    domain = xen.domains[guests.domids["pv"]]
    pyxc_command("cpupool-migrate", "pv", "old")
    try:
        peer.xl("sched-credit", "-d", "pv", "-w", "300", "-c", "50")
        assert domain.scheduling() == pyxc.CreditParams(300, 50)
        domain.set_scheduling(weight=400)
        for words in (
            ("sched-credit",), ("sched-credit", "-s", "-p", "old"), ("sched-credit", "-d", "pv"),
            ("cpupool-list",), ("cpupool-list", "-c"),
        ):  # fmt: skip
            assert pyxc_command(*words).stdout == peer.xl(*words)
    finally:
        peer.xl("cpupool-migrate", "pv", "Pool-0")
    assert domain.info().cpupool == 0


def test_a_pool_of_xls(xen: pyxc.Xen, peer: Peer, guests: Guests, free_cpu: int) -> None:
    xen.pools[0].remove_cpu(free_cpu)
    peer.xl("cpupool-create", 'name="xls"', 'sched="credit2"', f'cpus="{free_cpu}"')
    try:
        with pyxc.open() as named:
            assert named.pools["xls"].info().cpus == {free_cpu}
            named.pools["xls"].rename("ours")
        assert "ours " in peer.xl("cpupool-list")
    finally:
        peer.xl("cpupool-destroy", "ours")
        xen.pools[0].add_cpu(free_cpu)
    assert list(xen.pools) == [0]
