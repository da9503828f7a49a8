# SPDX-License-Identifier: MIT
"""Interrupts of devices that reach a domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyxc import arguments
from pyxc.abi import physdev
from pyxc.abi.physdev import MapPirqType

if TYPE_CHECKING:
    from pyxc.domain.domain import Domain

_INT_MAX = 2**31 - 1
_ANY = -1


def map_pirq(domain: Domain, gsi: int, pirq: int | None) -> int:
    index = arguments.natural("gsi", gsi, _INT_MAX)
    wanted = _ANY if pirq is None else arguments.natural("pirq", pirq, _INT_MAX)
    domain.info()
    reply = domain.xen.call(
        physdev.MAP_PIRQ, domain.domid, type=int(MapPirqType.GSI), index=index, pirq=wanted
    )
    return int(reply.field("pirq"))


def unmap_pirq(domain: Domain, pirq: int) -> None:
    arguments.natural("pirq", pirq, _INT_MAX)
    domain.info()
    domain.xen.call(physdev.UNMAP_PIRQ, domain.domid, pirq=pirq)
