# SPDX-License-Identifier: MIT
"""The NUMA nodes from which a domain gets its memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import SupportsIndex

from pyxc import arguments
from pyxc.abi import bitmap, domctl
from pyxc.domain.identity import Identity
from pyxc.host.topology import node_places


def read(domain: Identity) -> frozenset[int]:
    """See Domain.node_affinity()."""
    places = bitmap.wanted("nodemap", node_places(domain.xen))
    reply = domain.call(domctl.GETNODEAFFINITY, **places)
    return bitmap.unpack(reply.buffers["nodemap.bitmap"])


def write(domain: Identity, wanted: Iterable[SupportsIndex] | None) -> None:
    """See Domain.set_node_affinity()."""
    count = node_places(domain.xen)
    # With the set of all possible nodes Xen chooses by itself.
    chosen = range(8 * bitmap.room(count)) if wanted is None else arguments.nodes(wanted, count)
    domain.change(domctl.SETNODEAFFINITY, **bitmap.given("nodemap", chosen, count))
