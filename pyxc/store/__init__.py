# SPDX-License-Identifier: MIT
"""xenstore: the tree of nodes through which toolstack, guests and drivers of a Xen host communicate.

Use `xen.store` of an open hypervisor, or StoreClient() without a hypervisor, which also works in guests. This
package implements the protocol itself (Xen's docs/misc/xenstore.txt). The pyxs library does so, too, but it
is not in Debian, had its last release in 2019, and cannot list more names than fit in one message.

wire: messages, paths, permissions, without I/O. channel: the connection to the daemon. connection: requests
and replies. client, nodes, transaction, watch: the public API. names: names of domains.
"""

from __future__ import annotations

from pyxc.errors import StoreError
from pyxc.store.channel import Channel, connect
from pyxc.store.client import StoreClient
from pyxc.store.names import Names
from pyxc.store.transaction import Transaction
from pyxc.store.watch import Event, Watch
from pyxc.store.wire import Access, Kind, Permission, StoreFeature

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
