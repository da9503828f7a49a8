# SPDX-License-Identifier: MIT
"""The identity of a domain: its id and UUID on one host, and calls that read and change only this domain."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from pyxc import errors
from pyxc._core import ForeignMap
from pyxc.abi import domctl
from pyxc.abi.operation import Operation
from pyxc.call.reply import Reply
from pyxc.domain.info import INFO, DomainInfo, check_id
from pyxc.host.host import Host

if TYPE_CHECKING:
    import uuid

_NUMBERED = (4, 21)
"""The first release with unique ids."""


class Identity:
    """One domain, identified by (domid, uuid): Xen reuses domids, so every change first checks both.

    Since Xen 4.21 its unique id, recorded by the first check, also distinguishes domains with the same UUID.
    A domain can still be replaced between a check and the change; the window is microseconds. Threads: safe
    to share.
    """

    def __init__(self, xen: Host, domid: int, handle: uuid.UUID, number: int | None = None) -> None:
        self.xen = xen
        self.domid = domid
        self._uuid = handle
        self._handle = handle.bytes
        self._name: str | None = None
        self.number = number
        """Its unique id, None while it is unknown: see unique_id."""

    @property
    def uuid(self) -> uuid.UUID:
        return self._uuid

    @uuid.setter
    def uuid(self, new: uuid.UUID) -> None:
        self._uuid = new
        self._handle = new.bytes

    @property
    def unique_id(self) -> int | None:
        """Xen's own number of this domain, which is never reused (domctl get_domain_state); cached.

        None before Xen 4.21, and if the security policy (FLASK) forbids the query. DomainNotFound and
        DomainGone as for info().

        Example:

        >>> pyxc.open("sim:xen-4.22").domains[1].unique_id
        4189234530075310365
        """
        if self.number is None:
            self.look()
        return self.number

    def recognise(self) -> None:
        """Record its unique id when it is found; do nothing if it has none, or has gone."""
        number = self._number_now()
        if number is not None:
            with suppress(errors.DomainNotFound, errors.DomainGone):
                self.info()
                self.number = number

    def look(self) -> None:
        """Check that it still has its id: by its unique id if that is known, else by its UUID.

        DomainNotFound: no domain has the id; DomainGone: another domain has it.
        """
        number = self._number_now()
        if number is None or self.number is None:
            self.info()
            self.number = number
        else:
            self._check_number(number)

    def call(self, operation: Operation, /, **fields: Any) -> Reply:
        """Ask the hypervisor about this domain; see Caller.call() for fields.

        This reads from whichever domain has the id now. TypeError for an operation that makes changes: see
        change().
        """
        if operation.changes:
            raise TypeError(f"{operation.full_name} makes changes: call it through change()")
        return self.xen.call(operation, self.domid, **fields)

    def change(self, operation: Operation, /, **fields: Any) -> Reply:
        """Change this domain, if it still has its id.

        DomainNotFound: no domain has the id; DomainGone: another domain has it.
        """
        self.look()
        return self.xen.call(operation, self.domid, **fields)

    def confirm(self, mapped: ForeignMap) -> ForeignMap:
        """Return a mapping of this domain's pages; close it if they are not this domain's.

        The check comes after the mapping: a domain that has its id now also had it then. A restricted handle
        cannot check, but can map only one domain. DomainNotFound and DomainGone as for change().
        """
        if self.xen.caller.restricted_to is None:
            try:
                self.look()
            except BaseException:
                mapped.close()
                raise
        return mapped

    def undo(self, operation: Operation, /, **fields: Any) -> Reply | None:
        """Undo a change of this domain; returns None if it has gone, because then there is nothing to undo.

        The undo is done even if the check fails.
        """
        try:
            self.look()
        except (errors.DomainNotFound, errors.DomainGone):
            return None
        except errors.HypercallError:
            pass
        return self.xen.call(operation, self.domid, **fields)

    def info(self) -> DomainInfo:
        """Its present state (domctl getdomaininfo, and get_domain_state if its unique id is known).

        DomainNotFound: no domain has the id; DomainGone: another domain has it.

        Example:

        >>> web.info().memory_kb, web.info().nr_vcpus
        (65536, 2)
        """
        info = self.xen.caller.read(domctl.GETDOMAININFO, INFO, self.domid)
        if info.handle != self._handle or info.domid != self.domid:
            check_id(self.xen, info, self.domid)
            raise errors.DomainGone(f"domain {self.domid} now has the UUID {info.uuid}; {self.uuid} has gone")
        if self.number is not None:
            self._check_number(self._number_now())
        return info

    def _number_now(self) -> int | None:
        """The unique id of the domain that has the id now."""
        return None if self.xen.interface.xen < _NUMBERED else _unique_id()(self.xen, self.domid)

    def _check_number(self, number: int | None) -> None:
        if number not in (None, self.number):
            raise errors.DomainGone(f"domain {self.domid} is now another domain; {self.uuid} has gone")

    def exists(self) -> bool:
        """Whether this domain still exists, dying or not."""
        try:
            self.look()
        except (errors.DomainNotFound, errors.DomainGone):
            return False
        return True

    def guest_bits(self) -> int:
        """32 for a 32-bit PV guest, else 64 (domctl get_address_size).

        Since Xen 4.14 EINVAL for HVM guests; before 3.1 all guests are 64-bit.
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
        """Its id, so that a domain is accepted wherever a domid is."""
        return self.domid

    def __lt__(self, other: Identity) -> bool:
        """Domains are sorted by id."""
        return self.domid < other.domid

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} belongs to an open Xen and cannot be pickled: keep its UUID instead")


@cache
def _unique_id() -> Callable[[Host, int], int | None]:
    """Its module is imported on first use: few releases have unique ids."""
    from pyxc.domain.state import unique_id

    return unique_id
