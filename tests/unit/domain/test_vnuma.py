# SPDX-License-Identifier: MIT
"""NUMA nodes that a domain sees."""

from __future__ import annotations

import pytest
from hosts import Boot, Host

from pyxc import Vnuma, VnumaRange, errors

TWO = Vnuma(
    distances=((10, 20), (21, 10)),
    vcpu_nodes=(0, 1),
    ranges=(VnumaRange(0, 4 << 20, 0), VnumaRange(4 << 20, 8 << 20, 1)),
    physical_nodes=(0, 0),
)


@pytest.mark.parametrize("release", ["4.7", "4.17", "4.22"])
def test_a_topology_is_told_as_it_was_given(boot: Boot, release: str) -> None:
    web1 = boot(release).xen.domains["web1"]
    assert web1.vnuma() is None
    web1.set_vnuma(TWO)
    assert web1.vnuma() == TWO._replace(physical_nodes=None)


@pytest.mark.parametrize(
    "change",
    [
        {"distances": ()},
        {"distances": ((10,), (20,))},
        {"distances": ((10, -1), (20, 10))},
        {"distances": ((1,) * 33,) * 33, "physical_nodes": (0,) * 33},
        {"vcpu_nodes": (0, 2)},
        {"vcpu_nodes": (0,)},
        {"physical_nodes": None},
        {"physical_nodes": (0,)},
        {"physical_nodes": (0, -1)},
        {"ranges": (VnumaRange(0, 4096, 2),)},
        {"ranges": (VnumaRange(4096, 0, 0),)},
        {"ranges": (VnumaRange(-1, 0, 0),)},
        {"ranges": (VnumaRange(0, 4096, 0),) * 171},
    ],
    ids=str,
)
def test_a_topology_that_makes_no_sense_is_refused_here(host: Host, change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        host.xen.domains["web1"].set_vnuma(TWO._replace(**change))
    assert host.truth.domains[1].vnuma is None


def test_a_node_that_the_host_cannot_have(host: Host) -> None:
    with pytest.raises(errors.HypercallError, match="E2BIG"):
        host.xen.domains["web1"].set_vnuma(TWO._replace(physical_nodes=(0, 64)))


def test_it_came_with_4_5(boot: Boot) -> None:
    web1 = boot("4.4").xen.domains["web1"]
    with pytest.raises(errors.Unsupported):
        web1.set_vnuma(TWO)
