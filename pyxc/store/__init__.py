# SPDX-License-Identifier: MIT
"""xenstore: the tree of nodes by which toolstack, guests and drivers of a Xen host talk with each other.

`xen.store` of an open hypervisor, or StoreClient() alone, which needs no hypervisor: it works in guests, too.
It speaks the protocol itself (docs/misc/xenstore.txt of Xen). The pyxs library does so as well, but it is not
in Debian, had its last release in 2019, and cannot list more names than one message holds.

wire: messages, paths, permissions, without I/O. channel: the way to the daemon. connection: requests and
answers. client, nodes, transaction, watch: what programs use. names: what domains are called.
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
