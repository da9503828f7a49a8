# SPDX-License-Identifier: MIT
"""Which domain is meant: its id and UUID on one host, and the way to ask and change it and no other."""

from __future__ import annotations

import uuid
from typing import Any

from pyxc import errors
from pyxc.abi import domctl
from pyxc.abi.operation import Operation
from pyxc.call.caller import Reply
from pyxc.domain.info import DomainInfo, read_info
from pyxc.host.host import Host


class Identity:
    """One domain, known by (domid, uuid): domids are reused, so every change first looks whose id it is now.

    Between that look and the change a domain can still be replaced; the window is microseconds.
    Threads: may be shared.
    """

    def __init__(self, xen: Host, domid: int, handle: uuid.UUID) -> None:
        self.xen = xen
        self.domid = domid
        self.uuid = handle
        self._name: str | None = None

    def call(self, operation: Operation, /, **fields: Any) -> Reply:
        """Ask the hypervisor about this domain; see Caller.call() for fields.

        Whoever has the id now answers. TypeError for an operation that changes something: see change().
        """
        if operation.changes:
            raise TypeError(f"{operation.full_name} changes something: it must go through change()")
        return self.xen.call(operation, self.domid, **fields)

    def change(self, operation: Operation, /, **fields: Any) -> Reply:
        """Change this domain, if it still has its id.

        DomainNotFound: nobody has the id; DomainGone: another domain has it.
        """
        self.info()
        return self.xen.call(operation, self.domid, **fields)

    def undo(self, operation: Operation, /, **fields: Any) -> Reply | None:
        """Take back a change of this domain: None where it has gone, for then there is nothing to undo.

        A look that fails is no reason to leave things half done.
        """
        try:
            self.info()
        except (errors.DomainNotFound, errors.DomainGone):
            return None
        except errors.HypercallError:
            pass
        return self.xen.call(operation, self.domid, **fields)

    def info(self) -> DomainInfo:
        """What it is now (domctl getdomaininfo).

        DomainNotFound: no domain has the id; DomainGone: another domain has it.
        """
        info = read_info(self.xen, self.domid)
        if info.handle != self.uuid.bytes:
            raise errors.DomainGone(f"domain {self.domid} is now {info.uuid}; {self.uuid} is gone")
        return info

    def exists(self) -> bool:
        """Whether this very domain is still there, dying or not."""
        try:
            self.info()
        except (errors.DomainNotFound, errors.DomainGone):
            return False
        return True

    def guest_bits(self) -> int:
        """32 for a 32-bit PV guest, else 64 (domctl get_address_size).

        Since Xen 4.14 refused (EINVAL) for HVM guests; before 3.1 there were 64-bit guests only.
        """
        try:
            bits = int(self.call(domctl.GET_ADDRESS_SIZE).field("size"))
        except errors.Unsupported:
            return 64
        if bits not in (32, 64):
            raise errors.DecodeError(f"the hypervisor reports a {bits}-bit guest in domain {self.domid}")
        return bits

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity):
            return NotImplemented
        return (self.xen, self.domid, self.uuid) == (other.xen, other.domid, other.uuid)

    def __hash__(self) -> int:
        return hash((self.domid, self.uuid))
