# SPDX-License-Identifier: MIT
"""On which physical cpus vcpus may and prefer to run, in the form of each Xen release."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pyxc import errors
from pyxc.abi import bitmap, domctl
from pyxc.abi.domctl import AffinityFlag
from pyxc.abi.operation import Operation
from pyxc.host.host import Host

_BOTH = (int(AffinityFlag.HARD), int(AffinityFlag.SOFT))

Cpus = frozenset[int]


class Affinity(NamedTuple):
    """Physical cpus on which a vcpu may run (hard) and prefers to run (soft: None before Xen 4.5).

    Example:

    >>> web.vcpu(0).affinity()
    Affinity(hard=frozenset({0, 1}), soft=frozenset({0, 1}))
    """

    hard: Cpus
    soft: Cpus | None


def read(xen: Host, domid: int, vcpu: int) -> Affinity:
    """The affinity of one vcpu (domctl getvcpuaffinity)."""
    if xen.interface.dom0_op:
        reply = xen.call(domctl.GETVCPUINFO, domid, vcpu=vcpu)
        return Affinity(_members(reply.field("cpumap"), xen.nr_cpus), None)
    maps = _Maps(xen)
    reply = xen.call(domctl.GETVCPUAFFINITY, domid, vcpu=vcpu, **maps.wanted())
    return maps.affinity(reply.buffers[name] for name in maps.names)


def read_many(xen: Host, domids: Sequence[int], vcpus: Sequence[int]) -> dict[tuple[int, int], Affinity]:
    """The affinities of many vcpus in one multicall, by (domid, vcpu), without those that have gone."""
    if xen.interface.dom0_op:
        return _read_many_words(xen, domids, vcpus)
    maps = _Maps(xen)
    columns: dict[str, Sequence[int] | int] = {"domid": domids, "vcpu": vcpus, **maps.wanted()}
    batch = xen.caller.batch(domctl.GETVCPUAFFINITY, len(vcpus), **columns)
    rows = zip(*(batch.buffers[name] for name in maps.names))
    return {
        key: maps.affinity(row)
        for key, result, row in zip(zip(domids, vcpus), batch.results, rows)
        if result == 0
    }


def _read_many_words(
    xen: Host, domids: Sequence[int], vcpus: Sequence[int]
) -> dict[tuple[int, int], Affinity]:
    """In 2006 getvcpuinfo returned the affinity, in one word."""
    batch = xen.caller.batch(domctl.GETVCPUINFO, len(vcpus), domid=domids, vcpu=vcpus)
    words = (batch.layout.unpack(answer)["cpumap"] for answer in batch.answers)
    return {
        key: Affinity(_members(word, xen.nr_cpus), None)
        for key, result, word in zip(zip(domids, vcpus), batch.results, words)
        if result == 0
    }


def assignment(
    xen: Host, hard: Cpus | None, soft: Cpus | None, force: bool = False
) -> tuple[Operation, dict[str, Any]]:
    """The operation and fields that set what is not None (domctl setvcpuaffinity)."""
    if force and not _has_soft(xen):
        hint = "a temporary affinity cannot be overridden before Xen 4.5"
        raise errors.Unsupported(errno.ENOSYS, domctl.SETVCPUAFFINITY.full_name, hint=hint)
    if soft is not None and not _has_soft(xen):
        hint = "soft affinity exists since Xen 4.5"
        raise errors.Unsupported(errno.ENOSYS, domctl.SETVCPUAFFINITY.full_name, hint=hint)
    if xen.interface.dom0_op:
        from pyxc.abi import dom0_ops

        return dom0_ops.SETVCPUAFFINITY, {"cpumap": bitmap.bits(hard or ())}
    fields: dict[str, Any] = {**_Maps(xen).given(hard, soft)}
    if force:
        fields["flags"] |= int(AffinityFlag.FORCE)
    return domctl.SETVCPUAFFINITY, fields


def _has_soft(xen: Host) -> bool:
    return not xen.interface.dom0_op and xen.caller.has_field(domctl.SETVCPUAFFINITY, "flags")


class _Maps:
    """The cpumaps of vcpuaffinity: two maps with flags that select them, or before Xen 4.5 only the hard one.

    `names` are the fields of their buffers.
    """

    def __init__(self, xen: Host) -> None:
        self._nr_cpus = xen.nr_cpus
        self._chosen = _has_soft(xen)
        maps = ("cpumap_hard", "cpumap_soft") if self._chosen else ("cpumap",)
        self.names = tuple(f"{name}.bitmap" for name in maps)
        self._wanted = {
            field: size for name in maps for field, size in bitmap.wanted(name, self._nr_cpus).items()
        }

    def wanted(self) -> dict[str, int]:
        """Fields that request all maps: enough space for every cpu of the host, in whole u64."""
        flags = {"flags": sum(_BOTH)} if self._chosen else {}
        return {**flags, **self._wanted}

    def given(self, hard: Cpus | None, soft: Cpus | None) -> dict[str, int | bytes]:
        """Fields that set those that are not None. A map has its cpus in order of bytes, lowest bit first."""
        flags = {"flags": sum(flag for flag, cpus in zip(_BOTH, (hard, soft)) if cpus is not None)}
        maps = {name: bitmap.pack(cpus or (), self._nr_cpus) for name, cpus in zip(self.names, (hard, soft))}
        return {**(flags if self._chosen else {}), **self._wanted, **maps}

    def affinity(self, maps: Iterable[bytes]) -> Affinity:
        """The affinity from the returned buffers."""
        hard, *soft = (_members(int.from_bytes(data, "little"), self._nr_cpus) for data in maps)
        return Affinity(hard, soft[0] if soft else None)


def _members(bits: int, nr_cpus: int) -> Cpus:
    """The existing cpus: up to Xen 4.1 a set may have all cpus that Xen was built for."""
    return frozenset(cpu for cpu in range(nr_cpus) if bits >> cpu & 1)
