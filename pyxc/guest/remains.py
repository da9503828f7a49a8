# SPDX-License-Identifier: MIT
"""What remains of a guest in dom0 after the hypervisor has destroyed it, and its removal."""

from __future__ import annotations

import errno
from typing import NamedTuple

from pyxc import errors
from pyxc.domain.identity import Identity
from pyxc.store.transaction import Transaction
from pyxc.store.wire import Kind

BACKEND = "/local/domain/0/backend"
_HOLDERS = ("vbd", "qdisk", "vif")
"""Back ends that map memory of the guest, which cannot go before they let go of it."""
_GLANCE_S = 1.0
"""How long to wait for a xenstored that may not run."""


class Remains(NamedTuple):
    """What exists besides the domain itself; `ours`: pyxc launched it, and removes its remains.

    Of a guest of xl's only the back ends of its disks and networks are `removable`: with them it stays dying.
    """

    domain: Identity
    ours: bool
    removable: bool

    def remove(self) -> None:
        """Remove them once the domain is dying. StoreError."""
        if self.ours:
            remove(self.domain)
        elif self.removable:
            _remove_back_ends(self.domain)


def of(domain: Identity) -> Remains:
    """Find them while the domain exists. On a host without xenstore, or names, there are none."""
    usable = not domain.xen.readonly and domain.xen.names.use
    ours = usable and built_here(domain)
    return Remains(domain, ours, usable and not ours and _is_launched(domain))


def of_others(domain: Identity) -> bool:
    """Whether xl launched it, according to xl's own records; False if xenstore does not answer."""
    return _is_launched(domain) and not built_here(domain)


def _is_launched(domain: Identity) -> bool:
    return _glance(domain, f"/libxl/{domain.domid}") is not None


def built_here(domain: Identity) -> bool:
    """Whether pyxc launched it, according to xenstore; False if it does not answer within a second."""
    return _glance(domain, marker(domain.domid)) == str(domain.uuid).encode()


def _glance(domain: Identity, path: str) -> bytes | None:
    """A handle that does not use xenstore for names does not use it here either.

    StoreError if the connection ends, and a new one does not work either.
    """
    if not domain.xen.names.use:
        return None
    store = domain.xen.store
    try:
        return store.request(Kind.READ, path, timeout=_GLANCE_S)
    except errors.StoreError as error:
        if error.errno != errno.ECONNRESET:
            return None
    store.renew()  # xenstored may have been restarted
    return store.request(Kind.READ, path, timeout=_GLANCE_S)


def home(domid: int) -> str:
    return f"/local/domain/{domid}"


def marker(domid: int) -> str:
    """The node, for dom0 only, that says that pyxc launched the domain whose UUID it holds."""
    return f"/libxl/{domid}/pyxc"


def remove(domain: Identity) -> None:
    """All nodes of a guest that pyxc launched, unless another domain now has its id."""

    def clear(transaction: Transaction) -> None:
        if transaction.read(marker(domain.domid)) == str(domain.uuid).encode():
            kept = vm(domain) if _is_shared(transaction, domain) else None
            for top in tops(domain):
                if top != kept:
                    transaction.remove(top)

    domain.xen.store.transact(clear)


def _remove_back_ends(domain: Identity) -> None:
    """As xl does; hotplug scripts of xl's do not run."""

    def clear(transaction: Transaction) -> None:
        if transaction.read(f"{home(domain.domid)}/vm") == vm(domain).encode():
            for kind in _HOLDERS:
                transaction.remove(f"{BACKEND}/{kind}/{domain.domid}")

    domain.xen.store.transact(clear)


def _is_shared(transaction: Transaction, domain: Identity) -> bool:
    """Whether its guest has another domain with the same UUID, as when it moves within one host."""
    others = set(transaction.list("/local/domain") or []) - {str(domain.domid)}
    return any(transaction.read(f"/local/domain/{other}/vm") == vm(domain).encode() for other in others)


def vm(domain: Identity) -> str:
    """The root of what belongs to the guest, in whichever domain it is."""
    return f"/vm/{domain.uuid}"


def tops(domain: Identity) -> tuple[str, ...]:
    """The roots of all trees of a guest in xenstore."""
    domid = domain.domid
    backends = (f"{BACKEND}/{kind}/{domid}" for kind in ("console", "vbd", "vif"))
    return (home(domid), vm(domain), f"/libxl/{domid}", *backends)
