# SPDX-License-Identifier: MIT
"""Grants: pages that one domain shares with another."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, SupportsIndex

from pyxc import arguments, errors, undoing
from pyxc._core import ForeignMap
from pyxc.abi import grant_table, memory
from pyxc.abi.grant_table import PERMIT_ACCESS, Reserved, Status
from pyxc.abi.memory import Resource
from pyxc.domain.identity import Identity

_REF_MAX = 2**32 - 1
_V1_FRAME_MAX = 2**32 - 1
_PAGES_MOST = 1 << 16
_SHARED = 0
"""The id of the table itself among the resources of a domain."""
_TABLES_MAPPED = (4, 12)
"""The first release in which the grant table of another domain can be mapped."""


class GrantInfo(NamedTuple):
    """A domain's grant table: its frames, their limit, and the version of its entries.

    (GNTTABOP_query_size, GNTTABOP_get_version)

    Example:

    >>> web.grants.info()
    GrantInfo(nr_frames=1, max_nr_frames=64, version=1)
    """

    nr_frames: int
    max_nr_frames: int
    version: int


class Lent(NamedTuple):
    """Pages of this process that another domain may map by `refs`, one reference for each page.

    `pages` is their memory here, writable; closing it ends the grants when the other domain has unmapped
    them.

    Example:

    >>> lent = web.grants.lend(2, writable=True)
    >>> with lent.pages as pages:
    ...     memoryview(pages)[:5] = b"hello"
    >>> lent.refs
    (8, 9)
    """

    refs: tuple[int, ...]
    pages: ForeignMap


class Grants:
    """Pages that one domain grants to this one, and this one to it. Threads: safe to share.

    Example:

    >>> granted = web.grants.lend(2, writable=True)
    >>> granted.refs, granted.pages.close()
    ((8, 9), None)
    """

    def __init__(self, domain: Identity) -> None:
        self._domain = domain
        self._xen = domain.xen

    def info(self) -> GrantInfo:
        reply = self._domain.call(grant_table.QUERY_SIZE)
        if reply.field("status") != Status.OKAY:
            denied = reply.field("status") == Status.PERMISSION_DENIED
            number = errno.EACCES if denied else errno.ESRCH
            raise self._xen.caller.error(grant_table.QUERY_SIZE, number, self._domain.domid)
        version = self._domain.call(grant_table.GET_VERSION).field("version")
        return GrantInfo(reply.field("nr_frames"), reply.field("max_nr_frames"), version)

    def map(self, refs: int | Iterable[int], writable: bool = False) -> ForeignMap:
        """Map pages that the domain grants to this one, contiguously and without a copy: memoryview(map).

        `refs` are their references; the kernel's grant device maps them. Close the mapping, or use it in a
        `with` statement; an open mapping keeps a destroyed domain from disappearing. EINVAL if one of the
        pages is not granted to this domain, or is granted read-only. DomainGone: another domain has the id.
        """
        wanted = _refs(refs)
        if writable:
            self._xen.check_writable("mapping a grant writable")
        with self._named("gntdev.map", f"grants {wanted.tolist()} are not all granted to this domain"):
            mapped = self._xen.link.map_grants(self._domain.domid, wanted, writable)
        return self._domain.confirm(mapped)

    def lend(self, count: int = 1, writable: bool = False) -> Lent:
        """Grant new pages of zeros to the domain, with `writable` also for writing (the kernel's
        gntalloc)."""
        self._xen.check_writable("lending pages")
        arguments.natural("count", count, _PAGES_MOST, 1)
        self._domain.look()
        with self._named("gntalloc.lend"):
            refs, pages = self._xen.link.lend_pages(self._domain.domid, count, writable)
        return Lent(tuple(refs), pages)

    def seed(
        self,
        console: int | None = None,
        store: int | None = None,
        console_domid: SupportsIndex = 0,
        store_domid: SupportsIndex = 0,
    ) -> None:
        """Grant the console ring and the xenstore ring of a new domain to the domains that serve them.

        `console` and `store` are frames of the domain; None omits a ring. By default dom0 serves both. The
        references are those of Reserved. This writes to the domain's grant table, which has version 1 until
        the guest changes that (acquire_resource: Unsupported before Xen 4.12).
        """
        self._xen.check_writable("writing a grant table")
        if self._xen.interface.xen < _TABLES_MAPPED:
            hint = "the grant table of another domain can be mapped since Xen 4.12"
            domid, operation = self._domain.domid, memory.ACQUIRE_RESOURCE.full_name
            raise errors.Unsupported(errno.ENOSYS, operation, domid, hint=hint)
        rings = ((Reserved.CONSOLE, console, console_domid), (Reserved.XENSTORE, store, store_domid))
        entries = [
            (ref, arguments.natural("frame", frame, _V1_FRAME_MAX), arguments.domid(server))
            for ref, frame, server in rings
            if frame is not None
        ]
        layout = grant_table.ENTRY_V1_STRUCT.at(self._xen.interface)
        with self._table() as table, memoryview(table) as view:
            before = bytes(view)

            def restore() -> None:
                view[:] = before

            with undoing.on_failure(restore, f"domain {self._domain.domid}'s grant table keeps a change"):
                for ref, frame, server in entries:
                    entry = layout.pack({"flags": PERMIT_ACCESS, "domid": server, "frame": frame})
                    view[ref * layout.size : (ref + 1) * layout.size] = entry

    def _table(self) -> ForeignMap:
        """The first frame of the domain's table, mapped writable."""
        domid, kind = self._domain.domid, int(Resource.GRANT_TABLE)
        with self._named(memory.ACQUIRE_RESOURCE.full_name):
            table = self._xen.link.map_resource(domid, kind, _SHARED, 0, 1, writable=True)
        return self._domain.confirm(table)

    @contextmanager
    def _named(self, operation: str, hint: str = "") -> Iterator[None]:
        """Turn errors of the devices into errors that name the operation, or into DomainGone."""
        try:
            yield
        except errors.Error:
            raise
        except OSError as error:
            if self._xen.caller.restricted_to is None:
                self._domain.look()
            raise errors.from_errno(error.errno or 0, operation, self._domain.domid, hint=hint) from error

    def __repr__(self) -> str:
        return f"<Grants of domain {self._domain.domid}>"


def _refs(refs: int | Iterable[int]) -> array[int]:
    wanted = (refs,) if isinstance(refs, int) else refs
    found = array("I", [arguments.natural("ref", ref, _REF_MAX) for ref in wanted])
    arguments.natural("number of refs", len(found), _PAGES_MOST, 1)
    return found
