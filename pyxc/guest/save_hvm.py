# SPDX-License-Identifier: MIT
"""Saving a PVH guest: its virtual hardware."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from pyxc.abi.hvm import HvmParam
from pyxc.domain import tsc
from pyxc.domain.hvm_context import HvmContexts
from pyxc.domain.hvm_params import HvmParams
from pyxc.domain.identity import Identity
from pyxc.guest import stream
from pyxc.guest.save_pages import HvmPages, Send
from pyxc.guest.stream.records import DomainKind, Event

_PARAMS = frozenset(HvmParam(index) for index in (1, 5, 6, 27, 28, 29, 37, 17, 19, 9, 12, 34, 32, 33, 36, 38))
"""The parameters that are part of a guest's state. Event channels, for example, are not: they change."""


class HvmGuest:
    """What is saved of a PVH guest. Threads: one at a time."""

    kind = DomainKind.HVM

    def __init__(self, domain: Identity, send: Send) -> None:
        self._domain = domain
        self.pages = HvmPages(domain, send)

    def static(self) -> Iterator[Event]:
        """What does not change while it runs, besides its cpu policy."""
        yield from ()

    def layout(self) -> Iterator[Event]:
        """What must be known before its pages."""
        yield from ()

    def changed_layout(self) -> tuple[list[Event], array[int]]:
        """The same once it has stopped, if it has changed, and the pages that are others now."""
        return [], array("Q")

    def state(self) -> Iterator[Event]:
        """What is only known once it has stopped."""
        yield tsc.read(self._domain)
        yield stream.HvmContextRecord(bytes(HvmContexts(self._domain).read()))
        params = {param: value for param, value in HvmParams(self._domain).all().items() if param in _PARAMS}
        yield stream.HvmParams(tuple((int(param), value) for param, value in params.items() if value))
