# SPDX-License-Identifier: MIT
"""An open hypervisor, the roof: a Host with everything that it hands out."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex

from pyxc import arguments
from pyxc.abi import sysctl
from pyxc.abi.operation import DM_OP, DOM0_OP, DOMCTL, SYSCTL, Family, Operation
from pyxc.call.caller import Caller, Reply
from pyxc.domain.domains import Domains
from pyxc.domain.info import DomainInfo
from pyxc.host.host import Host
from pyxc.link import Link

if TYPE_CHECKING:  # each is imported by what hands it out: most programs use few
    from uuid import UUID

    from pyxc.domain.affinity import Affinity
    from pyxc.domain.leftovers import Leftover
    from pyxc.domain.pci import PciAddress
    from pyxc.domain.usage import Sample
    from pyxc.domain.vcpus import VcpuInfo
    from pyxc.domain.watcher import DomainWatcher, Source
    from pyxc.files.compressed import Opened
    from pyxc.guest.built import BuiltDomain
    from pyxc.guest.restore import Progress as Restored
    from pyxc.host.console import Console
    from pyxc.host.cpu_policy import CpuPolicies
    from pyxc.host.events import EventChannels
    from pyxc.host.flask import Flask
    from pyxc.host.hypfs import Hypfs
    from pyxc.host.livepatches import Livepatches
    from pyxc.host.perfc import PerformanceCounters
    from pyxc.host.pm import PowerManagement
    from pyxc.host.pools import Pool, Pools
    from pyxc.host.records import CpuTopology, NumaNode
    from pyxc.host.trace_buffers import TraceBuffers

_DEBUG_KEYS_MOST = 1024


class Xen(Host):
    """An open hypervisor. `with pyxc.open() as xen:`; see pyxc.open().

    Threads: may be shared. After a fork only the parent may use it.
    """

    def __init__(self, link: Link, caller: Caller, names: bool = True) -> None:
        super().__init__(link, caller, names)
        self.domains = Domains(self)

    @cached_property
    def pools(self) -> Pools:
        from pyxc.host.pools import Pools

        return Pools(self)

    @cached_property
    def console(self) -> Console:
        from pyxc.host.console import Console

        return Console(self)

    @cached_property
    def cpu_policies(self) -> CpuPolicies:
        from pyxc.host.cpu_policy import CpuPolicies

        return CpuPolicies(self)

    @cached_property
    def flask(self) -> Flask:
        from pyxc.host.flask import Flask

        return Flask(self)

    @cached_property
    def hypfs(self) -> Hypfs:
        from pyxc.host.hypfs import Hypfs

        return Hypfs(self)

    @cached_property
    def livepatches(self) -> Livepatches:
        from pyxc.host.livepatches import Livepatches

        return Livepatches(self)

    @cached_property
    def perfc(self) -> PerformanceCounters:
        from pyxc.host.perfc import PerformanceCounters

        return PerformanceCounters(self)

    @cached_property
    def pm(self) -> PowerManagement:
        from pyxc.host.pm import PowerManagement

        return PowerManagement(self)

    @cached_property
    def trace_buffers(self) -> TraceBuffers:
        from pyxc.host.trace_buffers import TraceBuffers

        return TraceBuffers(self)

    def topology(self) -> list[CpuTopology]:
        """Core, socket and node of each physical cpu (sysctl cputopoinfo; before Xen 4.6 topologyinfo).

        Before 4.1 only the nodes are told, before 3.2 nothing but how many cpus there are.
        """
        from pyxc.host import topology

        return topology.cpus(self)

    def numa(self) -> list[NumaNode]:
        """Memory of each node and distances between them (sysctl numainfo).

        Before 4.1 only free memory is told (sysctl availheap), before 3.2 it is Unsupported.
        """
        from pyxc.host import topology

        return topology.nodes(self)

    def restore(
        self,
        source: Opened,
        *,
        name: str | None = None,
        paused: bool = False,
        uuid: UUID | str | bytes | None = None,
        vcpus: int | None = None,
        memory_kb: int | None = None,
        pool: Pool | int | None = None,
        ssidref: int | None = None,
        paging_kb: int | None = None,
        progress: Restored | None = None,
    ) -> BuiltDomain:
        """A new domain that continues where a guest stopped that Domain.save() or `xl save` wrote.

        `source` is a path, an open file or pipe, or a socket, compressed or not; "-" is the standard input.
        Name and UUID are those of the saved guest unless others are given, and so are the number of vcpus and
        the memory that it may own: ValueError where the stream does not say these, as libxc's alone, and for
        a name or UUID that a living domain has. For the others see Domains.build(). `progress` is called with
        the number of pages restored, and of all pages. With `paused` it does not run yet.

        A guest with a name gets its nodes in xenstore and is introduced there. The domain is all there, or
        nothing of it: DecodeError where the stream is damaged or cut off; HypercallError ENOMEM, before any
        of its memory is read, where the host has not so much. Unsupported for a guest with a device model.

        >>> xen.restore("web1.save").info().paused
        False
        """
        from pyxc.guest import build, restore

        wanted = restore.Wanted(name, uuid, vcpus, memory_kb, pool, ssidref, paging_kb, paused, progress)
        making = build.Making(self, self.domains.create, self.domains.just_made)
        return restore.restore(making, source, wanted)

    def idle_ns(self) -> list[int]:
        """Nanoseconds since the boot that each physical cpu was idle (sysctl getcpuinfo, from 3.2 on)."""
        from pyxc.host import topology

        return topology.idle_ns(self)

    def available_bytes(self, node: int | None = None, *, least_bits: int = 0, most_bits: int = 0) -> int:
        """Free memory, of all nodes unless one is named (sysctl availheap, from 3.2 on).

        With `least_bits` or `most_bits` only that whose addresses have no fewer or no more bits: 32 at most
        are what a device can reach that knows 4 GiB.
        """
        from pyxc.host import topology

        return topology.available_bytes(self, node, least_bits, most_bits)

    def debug_keys(self, keys: str) -> None:
        """Press debug keys (sysctl debug_keys): what they print is in the console ring. "h" lists them."""
        if not isinstance(keys, str):
            raise TypeError(f"keys must be a string such as 'q', not {type(keys).__name__}")
        pressed = keys.encode("ascii")
        arguments.natural("number of keys", len(pressed), _DEBUG_KEYS_MOST)
        if not pressed:
            raise ValueError("keys is empty: expected at least one debug key")
        self.call(sysctl.DEBUG_KEYS, keys=pressed, nr_keys=len(pressed))

    def vcpus(self, domains: Iterable[DomainInfo] | None = None) -> list[VcpuInfo]:
        """All vcpus, of all domains or of some, in one multicall (domctl getvcpuinfo)."""
        from pyxc.domain.vcpus import read_infos

        return read_infos(self, *self._vcpus_of(domains))

    def affinities(self, domains: Iterable[DomainInfo] | None = None) -> dict[tuple[int, int], Affinity]:
        """Affinities of vcpus by (domid, vcpu), in one multicall (domctl getvcpuaffinity)."""
        from pyxc.domain import affinity

        return affinity.read_many(self, *self._vcpus_of(domains))

    def _vcpus_of(self, domains: Iterable[DomainInfo] | None) -> tuple[list[int], list[int]]:
        infos = self.domains.infos() if domains is None else domains
        pairs = [(info.domid, vcpu) for info in infos for vcpu in range(info.nr_vcpus)]
        return [domid for domid, _ in pairs], [vcpu for _, vcpu in pairs]

    def sample(self, *, full: bool = False) -> Sample:
        """All domains and vcpus with the time: two of them tell what each used, `now.since(before)`.

        With the counters of disks and networks where this domain's kernel has them. `full` adds the host
        and more of each domain, in `details`: names, targets, paging pools, memory on demand, grant tables.

        >>> xen = pyxc.open("sim:xen-4.17")
        >>> xen.sample(full=True).details.domains[1].name
        'web1'
        """
        from pyxc.domain import usage

        return usage.sample(self.domains, full=full)

    def events(self) -> EventChannels:
        """Event channels of this domain, to bind, ring and wait for. Close them, or use them in a `with`."""
        from pyxc.host.events import EventChannels

        return EventChannels(self)

    def watch_domains(self, source: Source | None = None, interval: float = 1.0) -> DomainWatcher:
        """Domains that come, shut down, die and go from now on, as a stream of events; see DomainWatcher.

        `source` says when to look: "xenstore", the word of xenstored, for domains that use it; "poll",
        nothing but time; "virq", the hypervisor's word (VIRQ_DOM_EXC) at the moment when a domain shuts down,
        dies or goes, which has one holder: xenstored does not start while somebody else is that. None takes
        "xenstore" where one runs, else "poll". Whatever it is, the domains are listed every `interval`
        seconds as well, since Xen does not say when one is created.
        """
        from pyxc.domain.watcher import DomainWatcher

        return DomainWatcher(self, source, interval)

    def leftovers(self) -> list[Leftover]:
        """What programs that were killed have left here, each with how to remove it; see Leftover.

        Domains that are paused, unknown to xenstore, dying or in log-dirty mode; cpu pools without a name, or
        with the time slice of one that loses its last cpu; nodes of domains and pools that are gone; open
        transactions of guests (not through a read-only handle). Changes nothing, and waits for nobody longer
        than for xenstore. Each may be meant: Xen does not say who paused a guest, nor whether that one has
        ended.

        Example:

        >>> [left.subject for left in xen.leftovers() if left.kind == "paused"]
        ['domain 3 (build)']
        """
        from pyxc.domain import leftovers

        return leftovers.find(self)

    def pci_group(self, device: PciAddress | str) -> list[PciAddress]:
        """dom0's other devices that the IOMMU cannot tell from this one (domctl get_device_group).

        They can only be assigned together.
        """
        return self.domains[self.own_domid].pci.group(device)

    def domctl(
        self, operation: str | Operation, domid: SupportsIndex | None = None, /, **fields: Any
    ) -> Reply:
        """A domctl by name and fields, for what pyxc has no method for; see Caller.call() for fields.

        `xen.domctl("max_mem", 5, max_memkb=1 << 20)`. A program may declare an Operation of its own, as for
        a vendor's command. Names and structures are in pyxc.abi.domctl. ValueError for an unknown name.
        """
        return self._raw(DOMCTL, operation, domid, fields)

    def sysctl(self, operation: str | Operation, /, **fields: Any) -> Reply:
        """A sysctl by name and fields, as domctl(); names are in pyxc.abi.sysctl."""
        return self._raw(SYSCTL, operation, None, fields)

    def dom0_op(
        self, operation: str | Operation, domid: SupportsIndex | None = None, /, **fields: Any
    ) -> Reply:
        """A dom0_op by name and fields, as domctl(), on a Xen of 2006; names are in pyxc.abi.dom0_ops."""
        return self._raw(DOM0_OP, operation, domid, fields)

    def dm_op(
        self, operation: str | Operation, domid: SupportsIndex, /, *buffers: bytes, **fields: Any
    ) -> Reply:
        """A device model operation on an HVM or PVH domain by name and fields; names are in pyxc.abi.dm_op.

        `xen.dm_op("inject_msi", 5, addr=0xFEE00000, data=0x41)`. Buffers behind the structure are given by
        position, and come back in Reply.buffers as "1", "2". The kernel takes 16 buffers of up to 4096 bytes.
        Xen trusts a device model: on a domain without those devices some have brought down the whole host.
        """
        asked = self._asked(DM_OP, operation)
        return self.caller.dm_op(asked, arguments.domid(domid), *buffers, **fields)

    def _raw(
        self, family: Family, operation: str | Operation, domid: SupportsIndex | None, fields: dict[str, Any]
    ) -> Reply:
        number = None if domid is None else operator.index(domid)
        return self.call(self._asked(family, operation), number, **fields)

    def _asked(self, family: Family, operation: str | Operation) -> Operation:
        if isinstance(operation, str):
            from pyxc.abi import registry

            operation = registry.named(family, operation)
        if operation.family is not family:
            raise ValueError(f"{operation.full_name} is not a {family.name} operation")
        return operation
