# SPDX-License-Identifier: MIT
"""An open hypervisor: a Host with access to its domains, pools and all other parts."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex

from pyxc import arguments
from pyxc.abi import sysctl
from pyxc.abi.operation import DM_OP, DOM0_OP, DOMCTL, SYSCTL, Family, Operation
from pyxc.call.reply import Reply
from pyxc.domain.domains import Domains
from pyxc.domain.info import DomainInfo
from pyxc.host.host import Host

if TYPE_CHECKING:  # imported on first use: most programs use few
    from uuid import UUID

    from pyxc.domain.affinity import Affinity
    from pyxc.domain.assignable import AssignableDevices
    from pyxc.domain.leftovers import Leftover
    from pyxc.domain.pci import PciAddress
    from pyxc.domain.usage import Sample
    from pyxc.domain.vcpus import VcpuInfo
    from pyxc.domain.watcher import DomainWatcher, Source
    from pyxc.files.compressed import Opened
    from pyxc.guest.built import BuiltDomain, Making
    from pyxc.guest.connection import Ends
    from pyxc.guest.restore import Progress as Restored
    from pyxc.guest.template import Template
    from pyxc.host.console import Console
    from pyxc.host.cpu_policy import CpuPolicies
    from pyxc.host.events import EventChannels
    from pyxc.host.flask import Flask
    from pyxc.host.hypfs import Hypfs
    from pyxc.host.livepatches import Livepatches
    from pyxc.host.lockprof import LockProfiling
    from pyxc.host.perfc import PerformanceCounters
    from pyxc.host.pm import PowerManagement
    from pyxc.host.pools import Pool, Pools
    from pyxc.host.topology import CpuTopology, NumaNode
    from pyxc.host.trace_buffers import TraceBuffers

_DEBUG_KEYS_MOST = 1024


class Xen(Host):
    """An open hypervisor. `with pyxc.open() as xen:`; see pyxc.open().

    Threads: safe to share; in a child after fork it refuses.

    Example:

    >>> with pyxc.open("sim:xen-4.17") as xen:
    ...     print(xen, xen.version, len(xen.domains))
    <Xen 4.17 at sim:xen-4.17> 4.17.7 4
    """

    @cached_property
    def domains(self) -> Domains:
        return Domains(self)

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
    def assignable_devices(self) -> AssignableDevices:
        from pyxc.domain.assignable import AssignableDevices

        return AssignableDevices(self)

    @cached_property
    def lockprof(self) -> LockProfiling:
        from pyxc.host.lockprof import LockProfiling

        return LockProfiling(self)

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

        Before 4.1 only the nodes are reported, before 3.2 only the number of cpus.
        """
        from pyxc.host import topology

        return topology.cpus(self)

    def numa(self) -> list[NumaNode]:
        """Memory of each node and distances between them (sysctl numainfo).

        Before 4.1 only free memory is reported (sysctl availheap), before 3.2 it is Unsupported.
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
        devices: bool = True,
    ) -> BuiltDomain:
        """A new domain that continues a guest saved by Domain.save() or `xl save`.

        `source` is a path, an open file or pipe, or a socket, compressed or not; "-" is the standard input.
        The name, the UUID, the number of vcpus and the memory limit default to those of the saved guest:
        ValueError if the stream does not have them, like that of libxc alone, and for a name or UUID that a
        living domain has. For the other arguments see Domains.build(). `progress` is called with the number
        of restored pages, and the total. With `paused` it does not run yet.

        A guest with a name gets its nodes in xenstore and is introduced there, and with `devices` its disks
        and network interfaces: the stream names files and bridges of this host, so it must be one that you
        trust. Unsupported for those that pyxc cannot attach; ValueError if another domain uses a disk, unless
        both only read it.

        The domain is complete, or nothing remains: DecodeError if the stream is damaged or truncated;
        HypercallError ENOMEM, before its memory is read, if the host has not enough. Unsupported for a guest
        with a device model, and before anything is made for one that has seen cpu features which the host
        lacks.

        Example:

        >>> saved = db1.save("db1.save", suspend="force")
        >>> db1.destroy()
        >>> xen.restore("db1.save", vcpus=1, memory_kb=131104).info().paused
        False
        """
        from pyxc.guest import restore

        wanted = restore.Wanted(
            name, uuid, vcpus, memory_kb, pool, ssidref, paging_kb, paused, progress, devices=devices
        )
        return restore.restore(self._making, source, wanted)

    def template(self, source: Opened) -> Template:
        """Read a saved guest into memory once, to start many domains of it; see restore() for `source`.

        ValueError if the stream has no size of the guest; DecodeError if it is damaged; Unsupported as for
        restore().

        Example:

        >>> saved = db1.save("db1.save", suspend="force", resume=True)
        >>> template = xen.template("db1.save")
        >>> clone = template.start(revertible=True)
        >>> template.revert(clone)
        0
        """
        from pyxc.guest import template

        return template.Template(self._making, source)

    def receive(
        self, ends: Ends, *, paused: bool = False, pool: Pool | int | None = None, ssidref: int | None = None
    ) -> BuiltDomain:
        """Receive a guest from Domain.migrate() or `xl migrate`; it runs when this returns, unless `paused`.

        `ends` is a connected socket, or the descriptors to read from and to write to. The name of the guest
        ends with "--incoming" until it is complete. It does not run until the other side allows it, and if
        anything fails before that, nothing of it remains. ConnectionError if the connection ends; further
        errors as for restore().
        """
        from pyxc.guest import receive, restore

        wanted = restore.Wanted(None, None, None, None, pool, ssidref, None, paused, None)
        return receive.receive(self._making, ends, wanted)

    @property
    def _making(self) -> Making:
        from pyxc.guest.built import Making

        return Making(self, self.domains.create, self.domains.just_made)

    def idle_ns(self) -> list[int]:
        """Nanoseconds since the boot that each physical cpu was idle (sysctl getcpuinfo, since Xen 3.2)."""
        from pyxc.host import topology

        return topology.idle_ns(self)

    def available_bytes(self, node: int | None = None, *, least_bits: int = 0, most_bits: int = 0) -> int:
        """Free memory in bytes, of all nodes or of one (sysctl availheap, since Xen 3.2).

        `least_bits` and `most_bits` limit it to addresses with at least or at most as many bits: a device
        that can address 4 GiB needs memory with at most 32 bits.
        """
        from pyxc.host import topology

        return topology.available_bytes(self, node, least_bits, most_bits)

    def debug_keys(self, keys: str) -> None:
        """Send debug keys (sysctl debug_keys): their output is in the console ring. "h" lists all keys."""
        if not isinstance(keys, str):
            raise TypeError(f"keys must be a string such as 'q', not {type(keys).__name__}")
        if not keys.isascii():
            raise ValueError(f"keys is {keys!r:.80}: debug keys are ASCII characters")
        pressed = keys.encode()
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
        """All domains and vcpus with the time: two samples show their usage, `now.since(before)`.

        This includes counters of disks and networks if this domain's kernel has them. `full` adds, in
        `details`, the host and more of each domain: names, targets, paging pools, memory on demand, grants.

        Example:
        >>> xen.sample(full=True).details.domains[1].name
        'web1'
        """
        from pyxc.domain import usage

        return usage.sample(self.domains, full=full)

    def events(self) -> EventChannels:
        """Event channels of this domain. Close them, or use them in a `with` statement; see EventChannels."""
        from pyxc.host.events import EventChannels

        return EventChannels(self)

    def watch_domains(self, source: Source | None = None, interval: float = 1.0) -> DomainWatcher:
        """A stream of events: domains that are created, shut down, start to die or die; see DomainWatcher.

        `source` says what triggers a check: "xenstore", xenstored's events for domains that use it; "poll",
        only time; "virq", the hypervisor's VIRQ_DOM_EXC when a domain shuts down, starts to die or dies,
        which only one process can bind: xenstored does not start without it. None takes "xenstore" if a
        xenstored runs, else "poll". With every source the domains are also listed every `interval` seconds,
        because Xen does not report creations.
        """
        from pyxc.domain.watcher import DomainWatcher

        return DomainWatcher(self, source, interval)

    def leftovers(self) -> list[Leftover]:
        """What killed programs may have left behind, and how to remove it; see Leftover.

        Domains that are paused, unknown to xenstore, dying or in log-dirty mode; cpu pools without a name, or
        with the time slice used for the removal of the last cpu; nodes of domains and pools that have gone;
        open transactions of guests (not through a read-only handle). It changes nothing. Each finding may be
        intended: Xen does not record who paused a guest, nor whether that program still runs.

        Example:

        >>> [left.subject for left in xen.leftovers() if left.kind == "paused"]
        ['domain 3 (build)']
        """
        from pyxc.domain import leftovers

        return leftovers.find(self)

    def pci_group(self, device: PciAddress | str) -> list[PciAddress]:
        """dom0's devices that the IOMMU cannot distinguish from this one (domctl get_device_group).

        They can only be assigned together.
        """
        return self.domains[self.own_domid].pci.group(device)

    def domctl(
        self, operation: str | Operation, domid: SupportsIndex | None = None, /, **fields: Any
    ) -> Reply:
        """A domctl by name and fields, for operations without a method; see Caller.call() for fields.

        `xen.domctl("max_mem", 5, max_memkb=1 << 20)`. A program may declare its own Operation, such as a
        vendor's. Names and structures are in pyxc.abi.domctl. ValueError for an unknown name, TypeError for a
        change without any field.
        """
        return self._raw(DOMCTL, operation, domid, fields)

    def sysctl(self, operation: str | Operation, /, **fields: Any) -> Reply:
        """A sysctl by name and fields, like domctl(); names are in pyxc.abi.sysctl."""
        return self._raw(SYSCTL, operation, None, fields)

    def dom0_op(
        self, operation: str | Operation, domid: SupportsIndex | None = None, /, **fields: Any
    ) -> Reply:
        """A dom0_op by name and fields, like domctl(), on a Xen of 2006; names are in pyxc.abi.dom0_ops."""
        return self._raw(DOM0_OP, operation, domid, fields)

    def dm_op(
        self, operation: str | Operation, domid: SupportsIndex, /, *buffers: bytes, **fields: Any
    ) -> Reply:
        """A device model operation on an HVM or PVH domain by name and fields; names are in pyxc.abi.dm_op.

        `xen.dm_op("inject_msi", 5, addr=0xFEE00000, data=0x41)`. Buffers after the structure are positional
        arguments, and are returned in Reply.buffers as "1", "2". The kernel accepts 16 buffers of up to 4096
        bytes. Xen trusts device models: on a domain without the devices some operations crash the host.
        """
        asked = self._asked(DM_OP, operation)
        return self.caller.dm_op(asked, arguments.domid(domid), *buffers, **fields)

    def _raw(
        self, family: Family, operation: str | Operation, domid: SupportsIndex | None, fields: dict[str, Any]
    ) -> Reply:
        if isinstance(domid, str):
            raise TypeError(f"domid must be an id or a Domain, not a str: xen.domains[{domid!r}] is one")
        number = None if domid is None else operator.index(domid)
        asked = self._asked(family, operation)
        if number is not None and not fields:
            self._check_none_wanted(asked)
        return self.call(asked, number, **fields)

    def _check_none_wanted(self, asked: Operation) -> None:
        """TypeError for a change whose fields would all be zero: the most memory of a domain, for example."""
        spoken = asked.spoken(self.interface)
        rows = spoken.body.rows_at(self.interface) if spoken.body and spoken.changes else []
        names = [row.name for row in rows if row.name is not None]
        if names and not spoken.fixed:
            raise TypeError(f"{spoken.full_name} needs fields, of {', '.join(names)}")

    def _asked(self, family: Family, operation: str | Operation) -> Operation:
        if isinstance(operation, str):
            from pyxc.abi import registry

            operation = registry.named(family, operation)
        if operation.family is not family:
            raise ValueError(f"{operation.full_name} is not a {family.name} operation")
        return operation
