# SPDX-License-Identifier: MIT
"""What a client's session sees of the daemon that it belongs to."""

from __future__ import annotations

from typing import Protocol

from pyxc.sim.xenstored.tree import Tree
from pyxc.store.features import StoreFeature

QUOTAS = {
    "nodes": 1000,
    "watches": 128,
    "outstanding": 20,
    "memory": 2560 << 10,
    "soft-memory": 2048 << 10,
    "transactions": 10,
    "transaction-nodes": 1024,
    "node-permissions": 5,
    "path-max": 2048,
    "node-size": 2048,
}
"""What a guest may have. The simulated daemon counts nodes, their sizes, watches and transactions only."""
FEATURES = StoreFeature.ERROR | StoreFeature.WATCHDEPTH | StoreFeature.DOMID_ANY
"""What domains may use unless dom0 says otherwise."""


class Own:
    """What one domain may have and use."""

    def __init__(self, quotas: dict[str, int]) -> None:
        self.quotas = quotas
        self.features = int(FEATURES)


class Limits:
    """What domains may have and use: `common` is for those that come."""

    def __init__(self) -> None:
        self.common = dict(QUOTAS)
        self._own: dict[int, Own] = {}

    def of(self, domid: int) -> Own:
        return self._own.setdefault(domid, Own(dict(self.common)))

    def forget(self, domid: int) -> None:
        """The domain has gone."""
        self._own.pop(domid, None)


class Guests(Protocol):
    """The domains of the host."""

    def since(self, *release: int) -> bool:
        """Whether Xen is that release or a newer one."""

    def exists(self, domid: int) -> bool:
        """Whether there is a domain that is not going away."""


class Daemon(Protocol):
    """The nodes, and who may act for whom."""

    tree: Tree
    limits: Limits

    @property
    def host(self) -> Guests:
        """Which domains there are."""

    def target_of(self, domid: int) -> int | None:
        """The domain whose rights another one shares."""
