# SPDX-License-Identifier: MIT
"""A domain that this process makes or has made, with the facts that its servers need."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pyxc.domain.domain import Domain
from pyxc.host.host import Host

if TYPE_CHECKING:
    from uuid import UUID

    from pyxc.domain.console import Console
    from pyxc.guest.images import Kind


class Making(NamedTuple):
    """How to create a domain on a host, and how to find it by its UUID after an interrupted creation."""

    xen: Host
    create: Callable[..., Domain]
    just_made: Callable[[UUID], list[int]]


class Rings(NamedTuple):
    """The pages that a new guest shares with xenstored and with its console, and its ports for them.

    Frames are machine frames of a PV domain, guest frames of a PVH domain.
    """

    store_frame: int
    store_port: int
    console_frame: int
    console_port: int


class BuiltDomain(Domain):
    """A domain as Domains.build() returns it: paused, with its memory and registers, and known to Xen alone.

    `kind` is "pv" or "pvh". `store_frame` and `console_frame` are the pages of its rings, machine frames of a
    PV domain, guest frames of a PVH domain; `store_port` and `console_port` its unbound ports for dom0.
    Threads: safe to share.
    """

    def __init__(self, xen: Host, domid: int, handle: UUID, kind: Kind, rings: Rings) -> None:
        super().__init__(xen, domid, handle)
        self.kind = kind
        self.store_frame, self.store_port, self.console_frame, self.console_port = rings

    @cached_property
    def console(self) -> Console:
        """The location of its ring is known here before xenstore has it."""
        from pyxc.domain.console import Console, Place

        return Console(self, Place(self.console_frame, self.console_port))
