# SPDX-License-Identifier: MIT
"""What a client's session sees of the daemon that it belongs to."""

from __future__ import annotations

from typing import Protocol

from pyxc.sim.xenstored.tree import Tree


class Guests(Protocol):
    """The domains of the host."""

    def exists(self, domid: int) -> bool:
        """Whether there is a domain that is not going away."""


class Daemon(Protocol):
    """The nodes, and who may act for whom."""

    tree: Tree

    @property
    def host(self) -> Guests:
        """Which domains there are."""

    def target_of(self, domid: int) -> int | None:
        """The domain whose rights another one shares."""
