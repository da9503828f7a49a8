# SPDX-License-Identifier: MIT
"""Names and UUIDs of domains: checking and setting them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from pyxc import arguments, errors, undoing
from pyxc.abi import domctl
from pyxc.domain.identity import Identity
from pyxc.domain.info import read_info
from pyxc.host.host import Host
from pyxc.store.nodes import Nodes
from pyxc.store.transaction import Transaction

_NAME_MOST = 255


def check(name: str) -> str:
    """A name that a domain can have. ValueError for one that is an id, a UUID, or not one line of text."""
    if not name or len(name.encode()) > _NAME_MOST or not name.isprintable() or name != name.strip():
        raise ValueError(f"{name!r:.80} cannot be a name: expected one line of 1 to {_NAME_MOST} bytes")
    if name.isdigit() or arguments.uuid_or_none(name) is not None:
        raise ValueError(f"{name!r} cannot be a name: it reads as a domain's id or UUID")
    return name


def check_free(xen: Host, store: Nodes, name: str, domid: int | None = None) -> None:
    """ValueError if another living domain has the name, according to `store`, a transaction.

    Nodes that a domain left behind do not count.
    """
    homes = store.list("/local/domain") or []
    _check_free(xen, homes, store.read_many(map(_name_of, homes)), name, domid)


def _name_of(home: str) -> str:
    return f"/local/domain/{home}/name"


def _check_free(
    xen: Host, homes: Sequence[str], names: Sequence[object], name: str, domid: int | None
) -> None:
    for home, found in zip(homes, names):
        taken = found == name.encode()
        if taken and home != str(domid) and home.isdigit() and _lives(xen, int(home)):
            raise ValueError(f"domain {home} already has the name {name}")


def _lives(xen: Host, domid: int) -> bool:
    try:
        return not read_info(xen, domid).dying
    except (errors.DomainNotFound, ValueError):
        return False


def write(domain: Identity, name: str) -> None:
    """Write a domain's name to its home in xenstore and to /vm/UUID, as xl does."""
    check(name)
    domain.info()

    def change(transaction: Transaction) -> None:
        """With few round trips: a guest that moves is down meanwhile."""
        vm = f"/vm/{domain.uuid}"
        homes = transaction.list("/local/domain") or []
        *names, of_vm = transaction.read_many([*map(_name_of, homes), vm])
        _check_free(domain.xen, homes, names, name, domain.domid)
        with transaction.together() as changes:
            changes.write(_name_of(str(domain.domid)), name)
            if of_vm is not None:
                changes.write(f"{vm}/name", name)

    domain.xen.store.transact(change)


def write_uuid(domain: Identity, new: uuid.UUID) -> None:
    """Change a domain's UUID in Xen (domctl setdomainhandle) and in `domain`."""
    old = domain.uuid

    def restore() -> None:
        domain.uuid = old
        if read_info(domain.xen, domain.domid).uuid == new:
            domain.xen.call(domctl.SETDOMAINHANDLE, domain.domid, handle=old.bytes)

    with undoing.on_interrupt(restore, f"domain {domain.domid} may already have the UUID {new}"):
        domain.change(domctl.SETDOMAINHANDLE, handle=new.bytes)
        domain.uuid = new
