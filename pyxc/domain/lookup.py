# SPDX-License-Identifier: MIT
"""Finding a domain by an id, a name or a UUID."""

from __future__ import annotations

import errno
import operator
import uuid as uuids
from collections.abc import Callable
from functools import partial
from typing import SupportsIndex

from pyxc import arguments, errors
from pyxc.abi import sysctl
from pyxc.domain.identity import Identity
from pyxc.domain.info import DomainInfo, read_info
from pyxc.host.host import Host

Key = SupportsIndex | str | uuids.UUID | Identity
"""An id, a name, a UUID or its string, or a domain."""

Listing = Callable[[], list[DomainInfo]]


def lookup(xen: Host, key: Key, infos: Listing) -> DomainInfo:
    """The domain for a key; `infos` lists all.

    A string of digits is an id. A string in the form of a UUID is a UUID, or a name if no domain has that
    UUID. A dying domain is found by a name or UUID only if no living domain matches. DomainNotFound;
    Ambiguous; StoreError if a name cannot be looked up; TypeError and ValueError for an invalid key.
    """
    if isinstance(key, Identity):
        return _same(xen, key)
    if isinstance(key, str):
        if key.isascii() and key.isdigit():
            return read_info(xen, arguments.domid(int(key)))
        if not key:
            raise ValueError("the name of a domain is empty")
        return _by_text(xen, key, infos())
    if isinstance(key, uuids.UUID):
        return _one_of(key, [info for info in infos() if info.uuid == key], f"the UUID {key}")
    return read_info(xen, arguments.domid(_number(key)))


def _same(xen: Host, domain: Identity) -> DomainInfo:
    try:
        return Identity(xen, domain.domid, domain.uuid, domain.number).info()
    except errors.DomainGone as error:
        raise _not_found(str(error)) from error


def _number(key: SupportsIndex) -> int:
    if isinstance(key, bool) or not hasattr(key, "__index__"):
        raise TypeError(f"expected an id (int), a name or a UUID, not {type(key).__name__}")
    return operator.index(key)


def _by_text(xen: Host, key: str, infos: list[DomainInfo]) -> DomainInfo:
    wanted = arguments.uuid_or_none(key)
    found = [info for info in infos if info.uuid == wanted]
    if all(info.dying for info in found):
        called = partial(_is_called, xen, key, wanted is not None)
        living = [info for info in infos if not info.dying and called(info)]
        found = living or found or [info for info in infos if info.dying and called(info)]
    return _one_of(key, found, f"the {'name' if wanted is None else 'UUID or name'} {key}")


def _is_called(xen: Host, name: str, is_uuid: bool, info: DomainInfo) -> bool:
    """Whether it has this name now. StoreError if that cannot be looked up, which does not mean no.

    Without xenstore, a string in the form of a UUID is only a UUID.
    """
    try:
        return xen.names.domain_name(info.domid, info.uuid, strictly=True) == name
    except errors.StoreError as error:
        if is_uuid and error.errno == errno.EOPNOTSUPP:
            return False
        reason = f"the name {name} cannot be looked up (use an id or a UUID): {error}"
        raise errors.StoreError(error.errno or errno.EIO, reason) from error


def _one_of(key: object, found: list[DomainInfo], what: str) -> DomainInfo:
    candidates = [info for info in found if not info.dying] or found
    if not candidates:
        raise _not_found(f"no domain has {what}")
    if len(candidates) > 1:
        raise errors.Ambiguous("domains", key, [info.domid for info in candidates])
    return candidates[0]


def _not_found(reason: str) -> errors.DomainNotFound:
    return errors.DomainNotFound(errno.ESRCH, sysctl.GETDOMAININFOLIST.full_name, hint=reason)
