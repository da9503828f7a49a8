# SPDX-License-Identifier: MIT
"""xenstore: the tree of nodes through which toolstack, guests and drivers of a Xen host communicate.

Use `xen.store` of an open hypervisor, or StoreClient() without a hypervisor, which also works in guests. This
package implements the protocol itself (Xen's docs/misc/xenstore.txt). The pyxs library does so, too, but it
is not in Debian, had its last release in 2019, and cannot list more names than fit in one message.

wire: messages and paths, without I/O. channel: the connection to the daemon. connection: requests
and replies. client, nodes, transaction, watch: the public API. names: names of domains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyxc.errors import StoreError
from pyxc.store.channel import Channel, connect
from pyxc.store.client import StoreClient
from pyxc.store.names import Names
from pyxc.store.wire import Kind

if TYPE_CHECKING:
    from pyxc.store.features import StoreFeature
    from pyxc.store.permission import Access, Permission
    from pyxc.store.transaction import Transaction
    from pyxc.store.watch import Event, Watch

__all__ = [
    "Access",
    "Channel",
    "Event",
    "Kind",
    "Names",
    "Permission",
    "StoreClient",
    "StoreError",
    "StoreFeature",
    "Transaction",
    "Watch",
    "connect",
]

_LATE = {
    "Access": "permission",
    "Event": "watch",
    "Permission": "permission",
    "StoreFeature": "features",
    "Transaction": "transaction",
    "Watch": "watch",
}
"""The modules of names that are imported on first use: most programs only read."""

if not TYPE_CHECKING:  # or a type checker would accept every name

    def __getattr__(name: str) -> object:
        """Such a name on first use (PEP 562)."""
        from importlib import import_module

        if name not in _LATE:
            raise AttributeError(f"module 'pyxc.store' has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"pyxc.store.{_LATE[name]}"), name)
        return found
