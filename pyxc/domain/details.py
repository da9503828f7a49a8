# SPDX-License-Identifier: MIT
"""The part of a sample that the list of domains does not have: names, and more about memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pyxc import errors
from pyxc.abi import domctl_paging, grant_table, memory
from pyxc.abi.domctl_state import GET_DOMAIN_STATE
from pyxc.abi.operation import Operation
from pyxc.call.records import R, Record
from pyxc.domain.info import DomainInfo
from pyxc.domain.memory import PodTarget
from pyxc.host import usage
from pyxc.host.host import Host
from pyxc.host.usage import HostUsage
from pyxc.store.usage import StoreUsage

_DIGITS_MOST = 16
_KB_PER_MB = 1024


class DomainDetails(NamedTuple):
    """More facts about one domain; None if unknown. Threads: safe to share.

    `unique_id` is Xen's own number of it (since 4.21), `target_kb` the target of its balloon driver (xenstore
    memory/target). For HVM and PVH domains `paging_pool_kb` is the memory that Xen keeps for their page
    tables, and `pod` their memory populated on demand. `grant_frames` is the number of pages of its grant
    table, at most `max_grant_frames`. `store` is what it has of what xenstored limits.

    Example:

    >>> details = xen.sample(full=True).details.domains[1]
    >>> details.name, details.target_kb, details.grant_frames
    ('web1', 65536, 1)
    """

    name: str | None
    unique_id: int | None
    target_kb: int | None
    paging_pool_kb: int | None
    pod: PodTarget | None
    grant_frames: int | None
    max_grant_frames: int | None
    store: StoreUsage | None


class Details(NamedTuple):
    """The host, and domains by id, at the moment of a sample. Threads: safe to share.

    Example:

    >>> xen.sample(full=True).details.domains[1].name
    'web1'
    """

    host: HostUsage
    domains: dict[int, DomainDetails]


class _State(NamedTuple):
    unique_id: int


class _Size(NamedTuple):
    bytes: int


class _Allocation(NamedTuple):
    mb: int


class _Grants(NamedTuple):
    frames: int
    most: int
    status: int


_STATE = Record(_State, GET_DOMAIN_STATE)
_SIZE = Record(_Size, domctl_paging.GET_PAGING_MEMPOOL_SIZE, bytes="size")
_ALLOCATION = Record(_Allocation, domctl_paging.SHADOW_OP_GET_ALLOCATION)
_POD = Record(PodTarget, memory.GET_POD_TARGET)
_GRANTS = Record(_Grants, grant_table.QUERY_SIZE, frames="nr_frames", most="max_nr_frames")


def read(xen: Host, infos: Sequence[DomainInfo]) -> Details:
    """A multicall for each fact about all domains; xenstore for names and targets."""
    ids = [info.domid for info in infos]
    translated = [info.domid for info in infos if info.is_hvm]
    states = _of_each(xen, GET_DOMAIN_STATE, _STATE, ids)
    pools = _paging_pools_kb(xen, translated)
    pods = _of_each(xen, memory.GET_POD_TARGET, _POD, translated)
    tables = _of_each(xen, grant_table.QUERY_SIZE, _GRANTS, ids, "dom")
    names = xen.names.domain_names((info.domid, info.handle) for info in infos)
    targets = _targets_kb(xen, ids)
    stores = _stores(xen, ids)
    found = {}
    for info, name, target_kb, store in zip(infos, names, targets, stores):
        domid, state, table = info.domid, states.get(info.domid), tables.get(info.domid)
        known = table is not None and table.status == 0
        found[domid] = DomainDetails(
            name,
            state.unique_id if state else None,
            target_kb,
            pools.get(domid),
            pods.get(domid),
            table.frames if table and known else None,
            table.most if table and known else None,
            store,
        )
    return Details(usage.read(xen), found)


def _of_each(
    xen: Host, operation: Operation, record: Record[R], ids: Sequence[int], domain: str = "domid"
) -> dict[int, R]:
    """One operation for each domain, without the domains for which it fails."""
    if not ids or not xen.caller.supports(operation):
        return {}
    try:
        batch = xen.caller.batch(operation, len(ids), record, **{domain: ids})
    except errors.Unsupported:
        return {}
    return {domid: one for domid, one, result in zip(ids, batch.records, batch.results) if result == 0}


def _paging_pools_kb(xen: Host, ids: Sequence[int]) -> dict[int, int]:
    """In whole MiB before Xen 4.17."""
    if xen.caller.supports(domctl_paging.GET_PAGING_MEMPOOL_SIZE):
        sizes = _of_each(xen, domctl_paging.GET_PAGING_MEMPOOL_SIZE, _SIZE, ids)
        return {domid: size.bytes // 1024 for domid, size in sizes.items()}
    allocations = _of_each(xen, domctl_paging.SHADOW_OP_GET_ALLOCATION, _ALLOCATION, ids)
    return {domid: found.mb * _KB_PER_MB for domid, found in allocations.items()}


def _targets_kb(xen: Host, ids: Sequence[int]) -> list[int | None]:
    """The balloon drivers' targets; None if the toolstack wrote none, or not a number."""
    if not xen.names.use:
        return [None] * len(ids)
    try:
        values = xen.store.read_many(f"/local/domain/{domid}/memory/target" for domid in ids)
    except errors.StoreError:
        return [None] * len(ids)
    return [_kb(value) for value in values]


def _stores(xen: Host, ids: Sequence[int]) -> list[StoreUsage | None]:
    """What xenstored counts; None for a domain that it does not know, and where it does not tell."""
    if not xen.names.use:
        return [None] * len(ids)
    try:
        used = xen.store.usages(ids)
    except errors.StoreError:
        return [None] * len(ids)
    return [None if isinstance(one, errors.StoreError) else one for one in used]


def _kb(value: bytes | errors.StoreError | None) -> int | None:
    known = isinstance(value, bytes) and value.isdigit() and len(value) <= _DIGITS_MOST
    return int(value) if known and isinstance(value, bytes) else None
