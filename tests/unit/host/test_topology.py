# SPDX-License-Identifier: MIT
"""What cpus and nodes have left, and from which nodes domains get memory."""

from __future__ import annotations

import errno

import pytest
from hosts import Boot, Host

from pyxc import errors


def test_idle_time_of_each_cpu(any_host: Host) -> None:
    if not any_host.truth.profile.since(3, 2):
        with pytest.raises(errors.Unsupported):
            any_host.xen.idle_ns()
        return
    first, second = any_host.xen.idle_ns()[:2]
    any_host.xen.domains["db1"].pause()
    later = any_host.xen.idle_ns()
    assert later[0] == first, "dom0's vcpu, which asks, runs on it"
    assert later[1] > second


def test_available_memory(host: Host) -> None:
    free = host.truth.machine.heap.free * 4096
    assert host.xen.available_bytes() == host.xen.available_bytes(0) == free
    assert host.xen.available_bytes(1) == 0, "there is no such node"
    assert host.xen.available_bytes(most_bits=30) == 0, "dom0 has all below 1 GiB"
    assert host.xen.available_bytes(least_bits=31, most_bits=31) == free
    assert host.xen.available_bytes(least_bits=32) == 0, "the host has 2 GiB"
    for wrong in ({"node": 64}, {"node": -2}, {"least_bits": 65}, {"most_bits": -1}):
        with pytest.raises(ValueError):
            host.xen.available_bytes(**wrong)


def test_nodes_from_which_a_domain_gets_memory(host: Host) -> None:
    web1, truth = host.xen.domains["web1"], host.truth.domains[1]
    assert web1.node_affinity() == {0}
    web1.set_node_affinity([0, 3])
    assert (web1.node_affinity(), truth.nodes) == ({0, 3}, 0b1001)
    web1.set_node_affinity(None)
    assert (web1.node_affinity(), truth.nodes) == ({0}, None)


def test_nodes_that_a_domain_cannot_have(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    for wrong, complaint in (([], "no NUMA node is given"), ([64], "node is 64"), ([-1], "node is -1")):
        with pytest.raises(ValueError, match=complaint):
            web1.set_node_affinity(wrong)
    with pytest.raises(errors.HypercallError) as caught:
        web1.set_node_affinity([5])
    assert caught.value.errno == errno.EINVAL, "it is not online"
    assert host.truth.domains[1].nodes is None


def test_nodes_of_domains_came_with_4_3(boot: Boot) -> None:
    with pytest.raises(errors.Unsupported):
        boot("4.1").xen.domains["web1"].node_affinity()


def test_a_domain_that_was_replaced_keeps_its_nodes(host: Host) -> None:
    web1 = host.xen.domains["web1"]
    host.truth.domains[1].handle = bytes(16)
    with pytest.raises(errors.DomainGone):
        web1.set_node_affinity([0])
