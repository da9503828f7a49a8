# SPDX-License-Identifier: MIT
"""What stays of a guest when the hypervisor has none of it any more, and who takes that away."""

from __future__ import annotations

from typing import NamedTuple

from pyxc.domain.identity import Identity
from pyxc.guest import nodes


class Remains(NamedTuple):
    """What there is beside the domain itself; `ours`: pyxc launched it, and takes its remains away."""

    domain: Identity
    ours: bool

    def remove(self) -> None:
        """After the domain has gone. StoreError."""
        if self.ours:
            nodes.remove(self.domain)


def of(domain: Identity) -> Remains:
    """To be found while the domain is there. On a host without xenstore there are none."""
    return Remains(domain, not domain.xen.readonly and nodes.built_here(domain))


def of_others(domain: Identity) -> bool:
    """Whether xl launched it, which keeps books of its own of that; False where that cannot be asked."""
    return nodes.has_libxl(domain) and not nodes.built_here(domain)
