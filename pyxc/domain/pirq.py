# SPDX-License-Identifier: MIT
"""Interrupts of devices for a domain."""

from __future__ import annotations

from pyxc import arguments
from pyxc.abi import physdev
from pyxc.abi.physdev import MapPirqType
from pyxc.domain.identity import Identity

_INT_MAX = 2**31 - 1
_ANY = -1


def map_gsi(domain: Identity, gsi: int, pirq: int | None) -> int:
    index = arguments.natural("gsi", gsi, _INT_MAX)
    wanted = _ANY if pirq is None else arguments.natural("pirq", pirq, _INT_MAX)
    reply = domain.change(physdev.MAP_PIRQ, type=int(MapPirqType.GSI), index=index, pirq=wanted)
    return int(reply.field("pirq"))


def unmap(domain: Identity, pirq: int) -> None:
    arguments.natural("pirq", pirq, _INT_MAX)
    domain.change(physdev.UNMAP_PIRQ, pirq=pirq)
