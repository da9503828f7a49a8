# SPDX-License-Identifier: MIT
"""Optional features of xenstored, by their bits."""

from __future__ import annotations

from pyxc.abi.flags import Flags


class StoreFeature(Flags):
    """Optional features of xenstored (XENSTORE_SERVER_FEATURE_*, public/io/xs_wire.h)."""

    RECONNECTION = 1 << 0
    """A guest may reset its ring."""
    ERROR = 1 << 1
    """It writes the reason of a failure to the ring."""
    WATCHDEPTH = 1 << 2
    """Watches may have a depth; since 4.22."""
    DOMID_ANY = 1 << 3
    """A permission may be for all domains; since 4.22."""
