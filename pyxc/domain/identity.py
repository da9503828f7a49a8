# SPDX-License-Identifier: MIT
"""Which domain is meant: its id and UUID on one host, and the way to ask and change it and no other."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from pyxc import errors
from pyxc.abi import domctl
from pyxc.abi.operation import Operation
from pyxc.call.caller import Reply
from pyxc.domain.info import INFO, DomainInfo, check_id
from pyxc.domain.state import unique_id
from pyxc.host.host import Host

if TYPE_CHECKING:
    import uuid


class Identity:
    """One domain, known by (domid, uuid): domids are reused, so every change first looks whose id it is now.

    Since Xen 4.21 it is known by its unique id, too, from the first look on: that tells domains of one UUID
    apart. Between a look and the change a domain can still be replaced; the window is microseconds.
    Threads: may be shared.
    """

    def __init__(self, xen: Host, domid: int, handle: uuid.UUID, number: int | None = None) -> None:
        self.xen = xen
        self.domid = domid
        self._uuid = handle
        self._handle = handle.bytes
        self._name: str | None = None
        self.number = number
        """Its unique id, None while it is not known: see unique_id."""

    @property
    def uuid(self) -> uuid.UUID:
        return self._uuid

    @uuid.setter
    def uuid(self, new: uuid.UUID) -> None:
        self._uuid = new
        self._handle = new.bytes

    @property
    def unique_id(self) -> int | None:
        """Xen's own number of this domain, which no other ever has (domctl get_domain_state); kept.

        None where there is none: before Xen 4.21, and where the security policy (FLASK) forbids to ask.
        DomainNotFound and DomainGone as of info().

        >>> pyxc.open("sim:xen-4.22").domains[1].unique_id
        4189234530075310365
        """
        if self.number is None:
            self.look()
        return self.number

    def recognise(self) -> None:
        """Learn its unique id as soon as it was found; without one, or without the domain, do nothing."""
        number = unique_id(self.xen, self.domid)
        if number is not None:
            with suppress(errors.DomainNotFound, errors.DomainGone):
                self.info()
                self.number = number

    def look(self) -> None:
        """Make sure that it still has its id: by its unique id where that is known, else by its UUID.

        DomainNotFound: no domain has the id; DomainGone: another domain has it.
        """
        number = unique_id(self.xen, self.domid)
        if number is None or self.number is None:
            self.info()
            self.number = number
        else:
            self._check_number(number)

    def call(self, operation: Operation, /, **fields: Any) -> Reply:
        """Ask the hypervisor about this domain; see Caller.call() for fields.

        Whoever has the id now answers. TypeError for an operation that changes something: see change().
        """
        if operation.changes:
            raise TypeError(f"{operation.full_name} makes changes: call it through change()")
        return self.xen.call(operation, self.domid, **fields)

    def change(self, operation: Operation, /, **fields: Any) -> Reply:
        """Change this domain, if it still has its id.

        DomainNotFound: nobody has the id; DomainGone: another domain has it.
        """
        self.look()
        return self.xen.call(operation, self.domid, **fields)

    def undo(self, operation: Operation, /, **fields: Any) -> Reply | None:
        """Take back a change of this domain: None where it has gone, for then there is nothing to undo.

        A look that fails is no reason to leave things half done.
        """
        try:
            self.look()
        except (errors.DomainNotFound, errors.DomainGone):
            return None
        except errors.HypercallError:
            pass
        return self.xen.call(operation, self.domid, **fields)

    def info(self) -> DomainInfo:
        """What it is now (domctl getdomaininfo, and get_domain_state where its unique id is known).

        DomainNotFound: no domain has the id; DomainGone: another domain has it.
        """
        info = self.xen.caller.read(domctl.GETDOMAININFO, INFO, self.domid)
        if info.handle != self._handle or info.domid != self.domid:
            check_id(self.xen, info, self.domid)
            raise errors.DomainGone(f"domain {self.domid} now has the UUID {info.uuid}; {self.uuid} has gone")
        if self.number is not None:
            self._check_number(unique_id(self.xen, self.domid))
        return info

    def _check_number(self, number: int | None) -> None:
        if number not in (None, self.number):
            raise errors.DomainGone(f"domain {self.domid} is now another domain; {self.uuid} has gone")

    def exists(self) -> bool:
        """Whether this very domain is still there, dying or not."""
        try:
            self.look()
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
        if None not in (self.number, other.number) and self.number != other.number:
            return False
        return (self.xen, self.domid, self.uuid) == (other.xen, other.domid, other.uuid)

    def __hash__(self) -> int:
        return hash((self.domid, self.uuid))

    def __index__(self) -> int:
        """Its id: a domain is accepted wherever a domid is."""
        return self.domid

    def __lt__(self, other: Identity) -> bool:
        """Domains are sorted by id."""
        return self.domid < other.domid

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} belongs to an open Xen and cannot be pickled: keep its UUID instead")
