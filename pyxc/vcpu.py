# SPDX-License-Identifier: MIT
"""Virtual cpus: where they run, where they may run, and what is in their registers."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

from pyxc import check, errors
from pyxc.abi import domctl
from pyxc.abi.domctl import AffinityFlag
from pyxc.context import VcpuContext
from pyxc.record import Record

if TYPE_CHECKING:
    from pyxc.domain import Domain
    from pyxc.xen import Xen


class VcpuInfo(NamedTuple):
    """A vcpu at one moment (domctl getvcpuinfo). `cpu` is the physical cpu it runs or last ran on."""

    domid: int
    vcpu: int
    online: bool
    blocked: bool
    running: bool
    cpu_time_ns: int
    cpu: int


_BOTH = (int(AffinityFlag.HARD), int(AffinityFlag.SOFT))
INFO = Record(VcpuInfo, domctl.GETVCPUINFO, cpu_time_ns="cpu_time")


class Affinity(NamedTuple):
    """Physical cpus on which a vcpu may run (hard) and prefers to run (soft: None before Xen 4.5)."""

    hard: frozenset[int]
    soft: frozenset[int] | None


class Vcpu:
    """One vcpu of a domain. Threads: may be used by many."""

    def __init__(self, domain: Domain, index: int) -> None:
        self.domain = domain
        self.index = index

    def info(self) -> VcpuInfo:
        """What it does now (domctl getvcpuinfo). DomainNotFound when the domain or the vcpu is not there."""
        reply = self._xen.call(domctl.GETVCPUINFO, self.domain.domid, vcpu=self.index)
        return INFO.at(self._xen.interface).one(reply.answer)

    @property
    def online(self) -> bool:
        """Whether the guest has brought it up (domctl getvcpuinfo)."""
        return self.info().online

    def affinity(self) -> Affinity:
        """Where it may and prefers to run (domctl getvcpuaffinity)."""
        maps = AffinityMaps(self._xen)
        fields = {"vcpu": self.index, **maps.wanted()}
        reply = self._xen.call(domctl.GETVCPUAFFINITY, self.domain.domid, **fields)
        return Affinity(*(_cpus(reply.buffers[name]) for name in maps.names), *maps.untold)

    def set_affinity(self, hard: Iterable[int] | None = None, soft: Iterable[int] | None = None) -> Affinity:
        """Change where it may and prefers to run; None leaves as it is (domctl setvcpuaffinity).

        Answers what the hypervisor made of it: cpus outside the domain's pool are left out. ValueError for a
        cpu that the host does not have and for an empty hard set. Unsupported for soft before Xen 4.5.
        """
        count = self._xen.nr_cpus
        sets = [
            None if wanted is None else check.cpus(name, wanted, count)
            for name, wanted in (("hard", hard), ("soft", soft))
        ]
        if sets == [None, None]:
            raise ValueError("neither hard nor soft affinity is given")
        if sets[0] is not None and not sets[0]:
            raise ValueError("hard names no cpu")
        fields = {"vcpu": self.index, **AffinityMaps(self._xen).given(*sets)}
        self._xen.call(domctl.SETVCPUAFFINITY, self.domain.domid, **fields)
        return self.affinity()

    def context(self) -> VcpuContext:
        """Its registers (domctl getvcpucontext): 32- or 64-bit, as the guest is. The vcpu is held for the
        moment.

        OSError EINVAL for the vcpu that asks, ENODATA for one that was never initialised.
        """
        width = self._width()
        size = VcpuContext.size(64, self._xen.interface)
        reply = self._xen.call(domctl.GETVCPUCONTEXT, self.domain.domid, vcpu=self.index, ctxt=size)
        return VcpuContext.decode(reply.buffers["ctxt"], width, self._xen.interface)

    def set_context(self, context: VcpuContext) -> None:
        """Replace all its registers and so initialise it (domctl setvcpucontext). Pause the domain first."""
        if context.width != self._width():
            raise ValueError(f"a {context.width}-bit context does not fit this {self._width()}-bit guest")
        self.domain.info()
        self._xen.call(domctl.SETVCPUCONTEXT, self.domain.domid, vcpu=self.index, ctxt=context.encode())

    def _width(self) -> int:
        """32 for a 32-bit PV guest, else 64: from 4.14 on Xen refuses get_address_size for HVM guests."""
        try:
            return int(self._xen.call(domctl.GET_ADDRESS_SIZE, self.domain.domid).field("size"))
        except errors.Unsupported:
            return 64

    @property
    def _xen(self) -> Xen:
        return self.domain.xen

    def __str__(self) -> str:
        return f"vcpu {self.index} of domain {self.domain.domid}"

    def __repr__(self) -> str:
        return f"<Vcpu {self.index} of domain {self.domain.domid}>"


class Vcpus(Sequence[Vcpu]):
    """The vcpus of a domain, online or not. Threads: may be used by many."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain

    def __len__(self) -> int:
        return self._domain.info().nr_vcpus

    @overload
    def __getitem__(self, index: int) -> Vcpu: ...
    @overload
    def __getitem__(self, index: slice) -> list[Vcpu]: ...
    def __getitem__(self, index: int | slice) -> Vcpu | list[Vcpu]:
        chosen = range(len(self))[index]
        return (
            Vcpu(self._domain, chosen) if isinstance(chosen, int) else [Vcpu(self._domain, i) for i in chosen]
        )

    def infos(self) -> list[VcpuInfo]:
        """All of them at once (domctl getvcpuinfo, in one multicall)."""
        info = self._domain.info()
        return read_infos(self._domain.xen, [info.domid] * info.nr_vcpus, list(range(info.nr_vcpus)))

    def __repr__(self) -> str:
        return f"<Vcpus of domain {self._domain.domid}>"


def read_infos(xen: Xen, domids: Sequence[int], vcpus: Sequence[int]) -> list[VcpuInfo]:
    """Many vcpus in one multicall; those that vanished meanwhile are left out."""
    batch = xen.caller.batch(domctl.GETVCPUINFO, len(vcpus), INFO, domid=domids, vcpu=vcpus)
    if not any(batch.results):
        return batch.records
    return [info for info, result in zip(batch.records, batch.results) if result == 0]


def read_affinities(xen: Xen, domids: Sequence[int], vcpus: Sequence[int]) -> dict[tuple[int, int], Affinity]:
    """Affinities of many vcpus in one multicall, by (domid, vcpu); those that vanished are left out."""
    maps = AffinityMaps(xen)
    columns: dict[str, Sequence[int] | int] = {"domid": domids, "vcpu": vcpus, **maps.wanted()}
    batch = xen.caller.batch(domctl.GETVCPUAFFINITY, len(vcpus), **columns)
    rows = zip(*(batch.buffers[name] for name in maps.names))
    return {
        key: Affinity(*map(_cpus, row), *maps.untold)
        for key, result, row in zip(zip(domids, vcpus), batch.results, rows)
        if result == 0
    }


class AffinityMaps:
    """The cpumaps of vcpuaffinity: two and flags that choose, or before Xen 4.5 only the hard one.

    `names` are the fields of their buffers; `untold` stands for the one that is not there.
    """

    def __init__(self, xen: Xen) -> None:
        self._bytes = (xen.nr_cpus + 63) // 64 * 8
        self._chosen = xen.caller.has_field(domctl.GETVCPUAFFINITY, "flags")
        maps = ("cpumap_hard", "cpumap_soft") if self._chosen else ("cpumap",)
        self.names = tuple(f"{name}.bitmap" for name in maps)
        self.untold = (None,) * (2 - len(maps))
        self._sizes = {f"{name}.nr_bits": 8 * self._bytes for name in maps}

    def wanted(self) -> dict[str, int]:
        """Fields that ask for all maps: enough room for every cpu of the host, in whole u64."""
        flags = {"flags": sum(_BOTH)} if self._chosen else {}
        return {**flags, **self._sizes, **dict.fromkeys(self.names, self._bytes)}

    def given(self, hard: frozenset[int] | None, soft: frozenset[int] | None) -> dict[str, int | bytes]:
        """Fields that set what is not None."""
        if soft is not None and not self._chosen:
            hint = "soft affinity came with Xen 4.5"
            raise errors.Unsupported(errno.ENOSYS, domctl.SETVCPUAFFINITY.full_name, hint=hint)
        flags = {"flags": sum(flag for flag, cpus in zip(_BOTH, (hard, soft)) if cpus is not None)}
        maps = {name: _bitmap(cpus or (), self._bytes) for name, cpus in zip(self.names, (hard, soft))}
        return {**(flags if self._chosen else {}), **self._sizes, **maps}


def _bitmap(cpus: Iterable[int], size: int) -> bytes:
    """A cpumap: bytes in order of the cpus, lowest bit first, whatever the byte order."""
    return sum(1 << cpu for cpu in cpus).to_bytes(size, "little")


def _cpus(bitmap: bytes) -> frozenset[int]:
    bits = int.from_bytes(bitmap, "little")
    return frozenset(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)
