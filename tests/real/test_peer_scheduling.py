# SPDX-License-Identifier: MIT
"""Shares and cpu pools as xl shows and sets them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ground_truth import Command, Guests, Peer

import pyxc
from pyxc import Scheduler


@pytest.fixture
def old_pool(xen: pyxc.Xen) -> Iterator[pyxc.Pool]:
    """A pool under credit with cpu 1, which xl knows by its name."""
    with pyxc.open() as named:
        pool = named.pools.create(Scheduler.CREDIT, name="old")
        named.pools[0].remove_cpu(1)
        pool.add_cpu(1)
        yield pool
        pool.remove_cpu(1)
        pool.destroy()
        named.pools[0].add_cpu(1)


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


def test_a_pool_of_xls(xen: pyxc.Xen, peer: Peer, guests: Guests) -> None:
    xen.pools[0].remove_cpu(1)
    peer.xl("cpupool-create", 'name="xls"', 'sched="credit2"', 'cpus="1"')
    try:
        with pyxc.open() as named:
            assert named.pools["xls"].info().cpus == {1}
            named.pools["xls"].rename("ours")
        assert "ours " in peer.xl("cpupool-list")
    finally:
        peer.xl("cpupool-destroy", "ours")
        xen.pools[0].add_cpu(1)
    assert list(xen.pools) == [0]
